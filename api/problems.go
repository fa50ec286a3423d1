package api

import (
	"net/http"

	"github.com/flowcordon/flowcordon/flow"
)

// problemForms are the sentences of this package's errors by their code; {0}, {1}, …
// stand for the values. web/src/problems.ru.json has the same in Russian.
var problemForms = flow.Forms{
	"param":             `{0}: {1} is not understood; write {2}`,
	"empty":             `{0} is empty; write a sentence that a colleague understands in a year`,
	"too_long":          `{0} is longer than 4000 characters; shorten it`,
	"from_to":           `from {0} is not before to {1}; write an earlier from or a later to`,
	"since_until":       `since is not before until; write an earlier since or a later until`,
	"step":              `step: {0} gives {1} points; write {2} or more, or a shorter time`,
	"undo_future":       `since is in the future; write when things began to go wrong, for example -1h`,
	"not_utf8":          `customer, owner and reason are not all UTF-8`,
	"flows_of_whom":     `from and to are more than 24 hours apart without tenant, customer or vds; write one of them, or a shorter time`,
	"too_many_prefixes": `more than {0} prefixes are meant; write a tenant or a vds besides`,
	"no_search":         `q is empty; write an address, a prefix, a customer, a VDS or the id of an incident`,
	"received_future":   `received {0} is in the future; write when the complaint came in`,
	"no_json":           `the body is no JSON object: {0}; send {"text": "…"}, or a report such as XARF`,
	"content_type":      `Content-Type: {0} is not understood; send text/plain, message/rfc822 or application/json`,
	"matching":          `{0} complaints are being matched already; try again in a moment`,
	"not_kept":          `complaints are not kept here; leave open out`,
	"if_match":          `If-Match is needed, so that nobody's change is overwritten: read the exemption and send its ETag`,
	"if_match_wrong":    `If-Match: {0} is not the ETag of an exemption; send it as it came, such as "1" with its quotes`,
	"no_incident":       `there is no incident {0}; GET /api/v1/incidents lists them`,
	"no_case":           `there is no case {0}; GET /api/v1/complaints?status=all lists them`,
	"no_exemption":      `there is no exemption {0}; GET /api/v1/exemptions?status=all lists them`,
	"no_customer":       `neither the inventory nor an incident knows the customer {0}; GET /api/v1/tenants lists them`,
	"no_holder":         `the inventory knows no such customer, vds or tenant`,
	"no_session":        `there is no such session; GET /api/v1/sessions lists them`,
	"no_evidence":       `the incident has no evidence yet; it is frozen when the incident is acted on or notified`,
	"no_form":           `the evidence has no form {0}; it has {1}`,
	"not_ours":          `{0} is in none of our networks; networks.internal of the configuration lists them`,
	"no_route":          `there is nothing at this address; /api/v1/openapi.json lists what there is`,
	"method":            `use {0} here`,
	"no_tokens":         `no API tokens are configured, so every call is refused; add to the configuration api: {tokens: [{name: noc, role: viewer, token_file: /etc/flowcordon/noc.token}]} and restart`,
	"token_needed":      `a token is needed; send the header Authorization: Bearer TOKEN`,
	"token_header":      `the Authorization header is not understood; send it once, as Authorization: Bearer TOKEN`,
	"token_wrong":       `this token is not accepted; check it against api.tokens of the configuration`,
	"token_expired":     `this token expired on {0}; ask for a new one in api.tokens of the configuration`,
	"role":              `{0} has the role {1}; this needs {2} or higher`,
	"too_often":         `{0} may call {1} times a second, {2} at once; wait, send If-None-Match when you poll, or read /api/v1/events`,
	"sign_in":           `sign in, or send the header Authorization: Bearer TOKEN`,
	"session_over":      `the session is over; sign in again`,
	"foreign":           `{0}; a session is for pages of {1}, other programs send a token`,
	"streams":           `there are {0} streams of events, or {1} of this token, already; close one, or poll /incidents`,
	"too_slow":          `the answer took longer than {0}; ask for a shorter time or fewer rows`,
	"given_up":          `the request was given up`,
	"busy":              "", // flow.Busy says it
	"store_away":        `the store could not {0}; try again, and look for request {1} in the log`,
	"internal":          `something failed on our side; look for request {0} in the log`,
}

// fault is an error of a code; one that problemForms lacks is a mistake of ours.
func fault(status int, code string, values ...any) *Error {
	text, told := problemForms.Say(code, values...)
	return &Error{Status: status, Code: code, Values: told.Values, Detail: text}
}

func missing(code string, values ...any) *Error { return fault(http.StatusNotFound, code, values...) }

func invalid(code string, values ...any) *Error {
	return fault(http.StatusUnprocessableEntity, code, values...)
}
