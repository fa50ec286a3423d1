package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// eventCommands follow what happens, and who looked.
func eventCommands() []deskCommand {
	return []deskCommand{
		{name: "events", what: "follow what happens to incidents, freezes and exporters, until Ctrl-C", role: api.RoleViewer, setup: setupEvents,
			more: "Prints a line for each event as it comes, and goes on where it was after the service was away. With --json a line is the event as the API sends it."},
		{name: "audit reads", what: "who looked at personal data", role: api.RoleAdmin, setup: setupReads},
	}
}

// maxEventLine bounds one line of the stream, in bytes: far above any event.
const maxEventLine = 1 << 20

// streamSilence ends a stream that has not even had a beat for three times its interval.
const streamSilence = 45 * time.Second

func setupEvents(fs *flag.FlagSet) action {
	_ = fs.Bool("f", true, "follow, which is all that it does; for those who type it")
	last := fs.String("since", "", "the `number` of the last event seen: what came after it is printed first")
	return func(ctx context.Context, d *desk, _ []string) error {
		at := *last
		for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
			heard, err := d.follow(ctx, &at)
			if ctx.Err() != nil {
				return context.Canceled
			}
			if err != nil {
				return err
			}
			if heard {
				wait = time.Second
			}
			fmt.Fprintf(d.errs, "the stream ended; asking again in %s\n", wait)
			select {
			case <-ctx.Done():
				return context.Canceled
			case <-time.After(wait):
			}
		}
	}
}

// follow reads one stream to its end. Errors are those that asking again does not mend.
func (d *desk) follow(ctx context.Context, at *string) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(streamSilence, cancel)
	defer silent.Stop()
	res, err := d.api.Events(ctx, &apiclient.EventsParams{LastEventID: opt(*at)})
	if err != nil {
		if *at == "" && ctx.Err() == nil {
			return false, d.end.unreached(err) // it was never there
		}
		return false, nil
	}
	if res.StatusCode != http.StatusOK {
		if _, err := d.end.check(res); res.StatusCode < http.StatusInternalServerError && res.StatusCode != http.StatusTooManyRequests {
			return false, err
		}
		return false, nil
	}
	defer func() { _ = res.Body.Close() }()
	s := bufio.NewScanner(res.Body)
	s.Buffer(nil, maxEventLine)
	name := ""
	for s.Scan() {
		silent.Reset(streamSilence)
		field, value, _ := strings.Cut(s.Text(), ": ")
		switch field {
		case "id":
			*at = value
		case "event":
			name = value
		case "data":
			if name == "hello" {
				heard = true
			}
			if err := d.printEvent(name, []byte(value)); err != nil {
				return heard, err
			}
		}
	}
	return heard, nil // its error is the connection's, which is made anew
}

func (d *desk) printEvent(name string, data []byte) error {
	if d.json {
		_, err := fmt.Fprintf(d.out, "{\"event\":%q,\"data\":%s}\n", name, data)
		return err
	}
	var e struct {
		Time                          time.Time
		Incident, Kind, Actor, Reason string
		Text, Tenant, Customer, State string
		Rules, Problems               []string
		Exporter, Status              string
		Live                          int
		Freezes                       []json.RawMessage
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return failf(exitAway, "%s sends an event that is no JSON: %v", d.end.base, err)
	}
	switch name {
	case "hello":
		return d.sayf("%s  connected: %d incidents are not over, %d freezes", stamp(e.Time), e.Live, len(e.Freezes))
	case "incident":
		return d.sayf("%s  %s  %s  %s  %s  %s by %s: %s", stamp(e.Time), e.Incident, e.Tenant, strings.Join(e.Rules, ","), e.State, e.Kind, e.Actor, first(e.Text, e.Reason, "-"))
	case "freeze":
		return d.sayf("%s  %s: %d freezes last", stamp(e.Time), e.Kind, len(e.Freezes))
	case "exporter":
		return d.sayf("exporter %s is %s  %s", e.Exporter, e.Status, strings.Join(e.Problems, "; "))
	case "bye":
		return d.sayf("the service ends the stream: %s", e.Reason)
	}
	return nil
}

func setupReads(fs *flag.FlagSet) action {
	actor := fs.String("actor", "", "by `whom`: the name of a token, or oidc: and a person's")
	operation := fs.String("operation", "", "of this `operation` of the API, such as host")
	target := fs.String("target", "", "exactly `what` was asked for")
	since := fs.String("since", "", "at this `time` or after: RFC 3339, or relative such as -24h")
	until := fs.String("until", "", "before this `time`")
	limit := fs.Int64("limit", 100, "at most so many, up to 1000")
	before := fs.String("before", "", "what the `page` before ended with")
	return func(ctx context.Context, d *desk, _ []string) error {
		p := apiclient.ReadsParams{Actor: opt(*actor), Operation: opt(*operation), Target: opt(*target), Since: opt(*since), Until: opt(*until), Before: opt(*before), Limit: limit}
		return show(ctx, d, "asking who looked", func(ctx context.Context) (*http.Response, error) { return d.api.Reads(ctx, &p) }, func(o *apiclient.ReadsOutputBody) error {
			if len(o.Reads) == 0 {
				return d.sayf("Nobody looked.")
			}
			t := newTable("TIME (UTC)", "WHO~8", "ROLE", "OPERATION", ">TIMES", "WHAT~20")
			for _, r := range o.Reads {
				t.add(stamp(r.Time), r.Actor, r.Role, r.Operation, r.Count, r.Target)
			}
			if err := t.write(d.out, d.term); err != nil || o.Next == nil {
				return err
			}
			return d.sayf("More are older: --before %s", *o.Next)
		})
	}
}
