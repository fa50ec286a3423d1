package execute

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/flowcordon/flowcordon/flow"
)

// protocolVersion is the version field of a request. It changes when a command
// that reads only what it knows could do wrong.
const protocolVersion = 1

// The actions, also the op label of the metrics.
const (
	actionStatus   = "status"
	actionCut      = "cut"
	actionRestore  = "restore"
	actionRestrict = "restrict"
	actionLift     = "lift"
	actionList     = "list"
)

// request is what a command reads from stdin.
type request struct {
	Version int           `json:"version"`
	Action  string        `json:"action"`
	Adapter string        `json:"adapter"`
	NIC     *flow.NIC     `json:"nic,omitempty"`     // absent of list
	Measure *flow.Measure `json:"measure,omitempty"` // of restrict whole, of lift only its kind
	Mark    *flow.Mark    `json:"mark,omitempty"`    // absent of status and list
	Receipt *flow.Receipt `json:"receipt,omitempty"` // of restore and lift: what the act was answered with
}

// reply is what a command writes to stdout: the state after the action.
type reply struct {
	state
	Before *state           `json:"before"` // before the incident's first act of this kind
	Node   string           `json:"node"`
	Undo   json.RawMessage  `json:"undo"` // given back in receipt.undo
	NICs   []flow.MarkedNIC `json:"nics"` // of list
	Error  json.RawMessage  `json:"error"`
}

type state struct {
	Live         flow.LinkState     `json:"live"`
	Config       flow.LinkState     `json:"config"`
	Running      bool               `json:"running"`
	Mark         *flow.Mark         `json:"mark"`
	Restrictions []flow.Restriction `json:"restrictions"`
}

func (s state) status() flow.NICStatus {
	st := flow.NICStatus{Live: known(s.Live), Config: known(s.Config), Running: s.Running, Mark: s.Mark}
	if len(s.Restrictions) > 0 {
		st.Restrictions = s.Restrictions
	}
	return st
}

// known maps whatever a command invents to the state that proves nothing.
func known(l flow.LinkState) flow.LinkState {
	if l == flow.LinkUp || l == flow.LinkDown {
		return l
	}
	return flow.LinkUnknown
}

// ask runs the command for one action.
func (a *Adapter) ask(ctx context.Context, q request) (reply, error) {
	q.Version, q.Adapter = protocolVersion, a.cfg.Name
	text, err := json.Marshal(q)
	if err != nil {
		return reply{}, fail(flow.ErrUnsupported, "encode: %w", err)
	}
	out, err := a.run(ctx, nil, append(text, '\n'))
	if err != nil {
		return reply{}, err
	}
	r, err := parse(out)
	if err == nil && q.Action != actionList && (r.Live == "" || r.Config == "") {
		err = errors.New("it lacks live or config")
	}
	if err != nil {
		return reply{}, fmt.Errorf("exited with 0, but its stdout is not the answer to %s: %w", q.Action, err)
	}
	return r, nil
}

func parse(out []byte) (reply, error) {
	var r reply
	if !utf8.Valid(out) {
		return r, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	if err := dec.Decode(&r); err != nil {
		return reply{}, fmt.Errorf("not the JSON object that is asked for: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return reply{}, errors.New("something follows the JSON object")
	}
	return r, nil
}
