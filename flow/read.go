package flow

import "time"

// Read is somebody's look at personal data through the API.
type Read struct {
	Time      time.Time `json:"time"` // of the first look
	Last      time.Time `json:"last"` // of the last one like it that is counted here
	Actor     string    `json:"actor" doc:"name of the token"`
	Role      string    `json:"role"`
	Operation string    `json:"operation" doc:"operation id of the OpenAPI document"`
	Target    string    `json:"target" doc:"what was asked for: path parameter, or the query"`
	Count     uint32    `json:"count"`
	Request   string    `json:"request" doc:"id of the first request"`
}

// ReadFilter selects reads; zero fields select all.
type ReadFilter struct {
	Actor     string
	Operation string
	Target    string    // exactly
	Since     time.Time // at or after
	Until     time.Time // before
	Limit     int
	Skip      int // of those at Until's instant and earlier, newest first
}
