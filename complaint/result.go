package complaint

import (
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/flow"
)

// Verdict is what is said of one line.
type Verdict string

// The verdicts.
const (
	Confirmed     Verdict = "confirmed"      // our flows show it
	Contradicted  Verdict = "contradicted"   // we would have seen it, we saw the host, and not this
	NotVisible    Verdict = "not_visible"    // it may have been; what we have cannot tell
	NoData        Verdict = "no_data"        // nothing is stored of that time
	Shifted       Verdict = "shifted"        // not at the time as read, but at another reading of it, or with the clock's offset
	UnknownHolder Verdict = "unknown_holder" // ours, but the inventory does not know whose; Traffic says what the flows show
	NotOurs       Verdict = "not_ours"       // no address of the line is in our networks
)

// verdicts in the order in which they are counted.
var verdicts = []Verdict{Confirmed, Shifted, Contradicted, NotVisible, NoData, UnknownHolder, NotOurs}

// Why is the reason behind a verdict.
type Why string

// The reasons.
const (
	WhyExact      Why = "exact"       // both addresses and both ports
	WhyPort       Why = "port"        // both addresses and the attacked port
	WhyRemote     Why = "remote"      // both addresses; the line names no port
	WhyService    Why = "service"     // the line does not name the target; the host was a client of that service then
	WhyPair       Why = "pair"        // sums of the pair; flow rows are not kept so long
	WhyTried      Why = "tried"       // sums of the service name the target among those that were tried
	WhyCoarse     Why = "coarse"      // only sums are left, and they neither show nor exclude it
	WhyNoService  Why = "no_service"  // sums that account for all of the host: it used no such service at all
	WhySampling   Why = "sampling"    // few packets were claimed for this sampling rate
	WhySilent     Why = "host_silent" // nothing of the host was seen around that time
	WhyUnspecific Why = "unspecific"  // the line names neither a target nor a port
	WhyNotKept    Why = "not_kept"    // flow rows of that time are not stored
	WhyAbsent     Why = "absent"      // host seen, this not, though it would have been
	WhyZone       Why = "zone"        // the zone is not known, and in another one it may be there
	WhyNone       Why = "nothing"     // nothing at all was collected at that time
	WhyOffset     Why = "offset"      // with the offset of Result.Skew
	WhyReading    Why = "reading"     // by another reading of the zone, or of day and month
	WhyForeign    Why = "foreign"     // not our networks
	WhyTooMany    Why = "too_many"    // beyond what is looked up at once
)

// Resolution is what a verdict was read from.
type Resolution string

// The resolutions, finest first.
const (
	ResolutionFlow   Resolution = "flow"
	ResolutionWindow            = Resolution(flow.ResolutionWindow)
	ResolutionHour              = Resolution(flow.ResolutionHour)
)

// Traffic is what is stored about one line.
type Traffic struct {
	Verdict Verdict `json:"verdict" enum:"confirmed,contradicted,not_visible,no_data,shifted" doc:"of the flows alone, whoever holds the address"`
	Why     Why     `json:"why"`
	// Resolution is absent where nothing was looked up, or nothing is stored.
	Resolution Resolution `json:"resolution,omitempty" enum:"flow,10s,1h" doc:"the finest data that is left of that time and was looked at: single flows, or sums of 10 seconds or of an hour"`
	Rows       int        `json:"rows,omitempty" doc:"flow rows, or windows, that show it"`
	Packets    uint64     `json:"est_packets,omitempty" doc:"in them, from our side, scaled by the sampling rate"`
	First      time.Time  `json:"first,omitzero"`
	Last       time.Time  `json:"last,omitzero"`
	Remotes    int        `json:"remotes,omitempty" doc:"distinct targets, when the line does not name one"`

	Rate        uint32  `json:"sampling_rate,omitempty" doc:"1:N at that time, the thinnest there was; absent when unknown"`
	Claimed     uint64  `json:"claimed_packets" doc:"that the line stands for at least"`
	CountStated bool    `json:"count_stated" doc:"false: the line states no number, claimed_packets is the least that it needs"`
	Chance      float64 `json:"chance" doc:"of having seen at least one of them: 1-(1-1/N)^k"`
	GroupLines  int     `json:"group_lines,omitempty" doc:"lines alike, from the same host to the same target and port"`
	GroupChance float64 `json:"group_chance,omitempty" doc:"of having seen at least one packet of all of them"`
	HostPackets uint64  `json:"host_packets" doc:"seen from the host within half an hour of that time, unscaled"`
}

// Line is one observation of the complaint with its verdict.
type Line struct {
	parse.Observation
	Verdict Verdict `json:"verdict" enum:"confirmed,contradicted,not_visible,no_data,shifted,unknown_holder,not_ours"`
	Text    string  `json:"text" doc:"the verdict in plain words"`
	TextRU  string  `json:"text_ru"`
	// Side says which end of the line is ours.
	Side    string     `json:"side" enum:"source,destination,none"`
	Host    netip.Addr `json:"host,omitzero" doc:"our address"`
	Remote  netip.Addr `json:"remote,omitzero" doc:"the other one"`
	Case    int        `json:"case" doc:"index into cases; -1 when the line is in none"`
	Traffic *Traffic   `json:"traffic,omitempty"`
	Notes   []Note     `json:"notes" doc:"what a person should know before acting on it"`
}

// Note is one thing to know, in both languages. Code is from a closed set.
type Note struct {
	Code string `json:"code"`
	EN   string `json:"en"`
	RU   string `json:"ru"`
}

// Skew is an offset of the reporter's clock that would explain the complaint.
type Skew struct {
	OffsetS     int        `json:"offset_s" doc:"to be added to the times as read"`
	Name        string     `json:"name" doc:"the offset for people, such as -03:00"`
	Resolution  Resolution `json:"resolution" enum:"flow,1h" doc:"what it was searched in: single flows, to the minute; where none are left sums by the hour, to the hour"`
	Explained   int        `json:"explained" doc:"lines that flows, or sums, confirm with it"`
	Of          int        `json:"of" doc:"lines that name a target, and so can be looked for"`
	AtZero      int        `json:"at_zero" doc:"lines confirmed without it"`
	Moments     int        `json:"moments" doc:"separate moments that the lines fall into: one moment proves little"`
	Chance      float64    `json:"chance" doc:"of the best of all offsets being as good by accident, at most"`
	Significant bool       `json:"significant" doc:"chance is below one in a thousand"`
	Text        string     `json:"text"`
	TextRU      string     `json:"text_ru"`
}

// Case is what concerns one address of ours and one holder of it.
type Case struct {
	Host    netip.Addr      `json:"host"`
	Tenant  netip.Addr      `json:"tenant" doc:"the address that its traffic is stored under"`
	Holder  *flow.Holder    `json:"holder,omitempty" doc:"at the time of the lines; absent when the inventory does not know"`
	Shared  bool            `json:"shared" doc:"the address serves several customers"`
	First   time.Time       `json:"first"`
	Last    time.Time       `json:"last"`
	Lines   int             `json:"lines"`
	Counts  map[Verdict]int `json:"counts" doc:"lines by the verdict of the flows"`
	Ports   []uint16        `json:"ports" doc:"attacked ports that the lines name"`
	Targets int             `json:"targets" doc:"distinct targets that the lines name"`
	// Incident is ours about the same holder at that time.
	Incident *IncidentRef `json:"incident,omitempty"`
	Notes    []Note       `json:"notes"`
}

// IncidentRef names an incident.
type IncidentRef struct {
	ID     string      `json:"id"`
	State  flow.State  `json:"state"`
	Rules  []flow.Rule `json:"rules"`
	Opened time.Time   `json:"opened"`
}

// Result is the answer to one complaint.
type Result struct {
	ReportID  string    `json:"report_id,omitempty"`
	From      string    `json:"from,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	MessageID string    `json:"message_id,omitempty"`
	Date      time.Time `json:"date,omitzero"`
	Received  time.Time `json:"received"`
	Tolerance int       `json:"tolerance_s"`

	Counts      map[Verdict]int `json:"counts" doc:"lines by verdict"`
	Lines       []Line          `json:"lines"`
	Unread      []parse.Unread  `json:"unread" doc:"lines that were not understood, with the reason; the first thousand"`
	UnreadCount int             `json:"unread_count"`
	TextLines   int             `json:"text_lines" doc:"lines of plain prose, which are not listed"`
	Parts       []parse.Part    `json:"parts"`
	Skew        *Skew           `json:"skew,omitempty" doc:"an offset of the clock that would explain the complaint better; it is not applied"`
	Cases       []Case          `json:"cases"`
	Notes       []string        `json:"notes"`
	Draft       Draft           `json:"draft" doc:"a reply to the reporter; it names no customer"`
}

// Draft is a reply in both languages.
type Draft struct {
	Subject string `json:"subject"`
	EN      string `json:"en"`
	RU      string `json:"ru"`
}
