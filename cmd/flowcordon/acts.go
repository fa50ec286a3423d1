package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// actCommands act on an incident in the name of the token.
func actCommands() []deskCommand {
	act := func(name, what, more string, role api.Role, setup func(*flag.FlagSet) action) deskCommand {
		return deskCommand{name: "incidents " + name, args: "ID", what: what, more: more, role: role, argument: "incident", setup: setup}
	}
	return []deskCommand{
		act("release", "give the network back", "Gives the network back. The statement says what the customer found and did; it is kept with the incident.", api.RoleAbuse,
			orderOf("statement", "what the customer says was found and done", "", func(d *desk, id, text string) call {
				return func(ctx context.Context) (*http.Response, error) {
					return d.api.Release(ctx, id, apiclient.ReleaseInputBody{Statement: text})
				}
			})),
		act("mistake", "give back what should not have been taken; no offence", "As release, but it counts as no offence of the customer.", api.RoleOperator,
			orderOf("reason", "what was wrong", "", func(d *desk, id, text string) call {
				return func(ctx context.Context) (*http.Response, error) {
					return d.api.Mistake(ctx, id, apiclient.ReasonInputBody{Reason: text})
				}
			})),
		act("approve", "cut the network of an incident that waits for it", "Cuts as if the rule were in the mode enforce.", api.RoleOperator,
			orderOf("reason", "why the network is to be cut", "Cut the network of", func(d *desk, id, text string) call {
				return func(ctx context.Context) (*http.Response, error) {
					return d.api.Approve(ctx, id, apiclient.ReasonInputBody{Reason: text})
				}
			})),
		act("close", "end an incident without an act", "For incidents that led to no cut, or need none any more.", api.RoleAbuse,
			orderOf("reason", "why nothing is to be done", "", func(d *desk, id, text string) call {
				return func(ctx context.Context) (*http.Response, error) {
					return d.api.Close(ctx, id, apiclient.ReasonInputBody{Reason: text})
				}
			})),
		act("cut", "cut the network by hand", "Cuts the network, instead of what is in force for the incident now.", api.RoleOperator,
			orderOf("reason", "why the network is to be cut", "Cut the network of", func(d *desk, id, text string) call {
				return func(ctx context.Context) (*http.Response, error) {
					return d.api.Restrict(ctx, id, apiclient.RestrictInputBody{Measure: apiclient.RestrictInputBodyMeasureCut, Reason: text})
				}
			})),
		act("restrict", "block ports or limit the rate by hand", "Takes a measure that is milder than the cut, instead of what is in force for the incident now.", api.RoleOperator, setupRestrict),
	}
}

// orderFlags are those of a command that acts on an incident.
type orderFlags struct {
	field, text string
	yes         bool
	wait        time.Duration
}

func (o *orderFlags) flags(fs *flag.FlagSet, field, what string, asks bool) {
	o.field = field
	fs.StringVar(&o.text, field, "", what+", as a `text`; - reads it from standard input")
	fs.DurationVar(&o.wait, "wait", 0, "wait up to so long until it is done, and fail if it is not")
	if asks {
		fs.BoolVar(&o.yes, "yes", false, "do not ask")
	}
}

// read gives the text, which has to be there before anything is asked.
func (o *orderFlags) read(in io.Reader) (string, error) {
	text := o.text
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(in, 64<<10))
		if err != nil {
			return "", err
		}
		text = string(b)
	}
	if strings.TrimSpace(text) == "" {
		return "", failf(exitUsage, `--%s is missing; write --%s "a sentence that a colleague understands in a year"`, o.field, o.field)
	}
	return text, nil
}

// orderOf makes an action of a call that needs a text. question, if there is
// one, is asked before.
func orderOf(field, what, question string, order func(d *desk, id, text string) call) func(*flag.FlagSet) action {
	return func(fs *flag.FlagSet) action {
		var o orderFlags
		o.flags(fs, field, what, question != "")
		return func(ctx context.Context, d *desk, args []string) error {
			text, err := o.read(d.in)
			if err != nil {
				return err
			}
			return d.order(ctx, &o, args[0], question, order(d, args[0], text))
		}
	}
}

// order asks, acts, waits and shows what became of the incident.
func (d *desk) order(ctx context.Context, o *orderFlags, id, question string, f call) error {
	one := func(ctx context.Context) (*http.Response, error) { return d.api.Incident(ctx, id) }
	if question != "" && !o.yes {
		was, _, err := get[apiclient.IncidentOutputBody](ctx, d, "asking for the incident", one)
		if err != nil {
			return err
		}
		in := &was.Incident
		who := first(holderName(in.Holder), "nobody that the inventory knows")
		if err := d.confirm(false, fmt.Sprintf("%s %s, held by %s? Incident %s (%s) is %s.", question, in.Tenant, who, id, strings.Join(in.Rules, " "), in.State)); err != nil {
			return err
		}
	}
	got, body, err := get[apiclient.IncidentOutputBody](ctx, d, "acting", f)
	if err == nil && o.wait > 0 {
		got, body, err = d.settled(ctx, o.wait, got, body, one)
	}
	if err != nil {
		return err
	}
	if d.json {
		return d.writeJSON(body)
	}
	in := &got.Incident
	line := fmt.Sprintf("incident %s of %s is %s", in.ID, in.Tenant, in.State)
	if r := val(in.Reason); r != "" {
		line += ": " + r
	}
	return d.sayf("%s", line)
}

// settled waits until an incident is not on its way any more. One that has
// failed is an error.
func (d *desk) settled(ctx context.Context, wait time.Duration, got *apiclient.IncidentOutputBody, body []byte, one call) (*apiclient.IncidentOutputBody, []byte, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	done := d.progress("waiting until it is done")
	defer done()
	quiet := *d
	quiet.lines = true // one progress at a time
	for {
		switch s := got.Incident.State; s {
		case apiclient.IncidentStateSuspending, apiclient.IncidentStateReleasing:
		case apiclient.IncidentStateFailed:
			return nil, nil, failf(exitFailed, "incident %s has failed: %s", got.Incident.ID, val(got.Incident.Reason))
		default:
			return got, body, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, context.Canceled
		case <-end.C:
			return nil, nil, failf(exitFailed, "incident %s is still %s after %s; incidents show %s tells how it goes on", got.Incident.ID, got.Incident.State, wait, got.Incident.ID)
		case <-time.After(500 * time.Millisecond):
		}
		next, b, err := get[apiclient.IncidentOutputBody](ctx, &quiet, "", one)
		if err != nil {
			return nil, nil, err
		}
		got, body = next, b
	}
}

func setupRestrict(fs *flag.FlagSet) action {
	var o orderFlags
	o.flags(fs, "reason", "why", true)
	block := fs.String("block", "", "`ports` that the tenant may not send to, such as tcp/22,udp/53; icmp or gre alone stands for all of it")
	limit := fs.Int64("limit-kbit", 0, "`kbit/s` that the tenant may send")
	return func(ctx context.Context, d *desk, args []string) error {
		body := apiclient.RestrictInputBody{}
		var question string
		switch {
		case (*block == "") == (*limit == 0):
			return failf(exitUsage, "write either --block tcp/22 or --limit-kbit 10000; incidents cut takes the network away")
		case *limit < 0:
			return failf(exitUsage, "--limit-kbit %d: write a number above 0", *limit)
		case *limit > 0:
			body.Measure, body.KbitS = apiclient.RestrictInputBodyMeasureRateLimit, limit
			question = fmt.Sprintf("Limit to %d kbit/s what is sent by", *limit)
		default:
			ports, err := parsePorts(*block)
			if err != nil {
				return err
			}
			body.Measure, body.Ports = apiclient.RestrictInputBodyMeasureBlockPort, ports
			question = "Block " + *block + " for"
		}
		text, err := o.read(d.in)
		if err != nil {
			return err
		}
		body.Reason = text
		return d.order(ctx, &o, args[0], question, func(ctx context.Context) (*http.Response, error) { return d.api.Restrict(ctx, args[0], body) })
	}
}

// parsePorts reads tcp/22,udp/53,gre.
func parsePorts(s string) ([]apiclient.PortRule, error) {
	var out []apiclient.PortRule
	for _, part := range strings.Split(s, ",") {
		name, number, hasPort := strings.Cut(strings.TrimSpace(part), "/")
		p := apiclient.PortRule{Proto: -1}
		for n, known := range protocolNames {
			if strings.EqualFold(name, known) {
				p.Proto = n
			}
		}
		port, err := strconv.ParseUint(number, 10, 16)
		portless := p.Proto != 6 && p.Proto != 17
		if p.Proto < 0 || hasPort && (err != nil || port == 0 || portless) || !hasPort && !portless {
			return nil, failf(exitUsage, "--block: %q is not understood; write a protocol and a port such as tcp/22, or icmp or gre alone", part)
		}
		if hasPort {
			n := int64(port)
			p.Port = &n
		}
		out = append(out, p)
	}
	return out, nil
}
