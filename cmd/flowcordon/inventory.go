package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
)

const inventoryUsage = `usage: flowcordon inventory --config F [--read] [--json] [ADDRESS or PREFIX]

Lists who holds which address now and how that is known: the file, and what the
sources said last. With --read the sources are asked first; nothing is kept of it.
`

// runInventory shows what the inventory holds, and why.
func runInventory(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var path string
	var read, asJSON bool
	fs := flag.NewFlagSet("inventory", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, inventoryUsage) }
	fs.StringVar(&path, "config", "/etc/flowcordon/flowcordon.yaml", "configuration `file`")
	fs.BoolVar(&read, "read", false, "ask the sources first")
	fs.BoolVar(&asJSON, "json", false, "a JSON document")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	within, err := argPrefix(fs.Args())
	if err != nil {
		fmt.Fprintln(stderr, "flowcordon inventory:", err)
		return 2
	}
	cfg, err := config.Load(path)
	if err != nil {
		return configFailed(err, stderr)
	}
	inv, err := openInventory(cfg, inventory.Deps{}, true)
	if err != nil {
		return configFailed(err, stderr)
	}
	code := 0
	if read {
		for _, s := range cfg.Inventory.Sources {
			if err := inv.ReadSource(ctx, s.Name); err != nil {
				fmt.Fprintf(stderr, "inventory source %s: %v\n", s.Name, err)
				code = 1
			}
		}
	}
	held := slices.DeleteFunc(inv.Held(), func(h inventory.Held) bool { return within.IsValid() && !h.Prefix.Overlaps(within) })
	if asJSON {
		err = json.NewEncoder(stdout).Encode(struct {
			Sources []inventory.SourceHealth `json:"sources"`
			Held    []inventory.Held         `json:"held"`
		}{inv.Sources(), held})
	} else {
		err = printInventory(stdout, inv.Sources(), held)
	}
	if err != nil {
		fmt.Fprintln(stderr, "flowcordon inventory:", err)
		return 1
	}
	return code
}

func argPrefix(args []string) (netip.Prefix, error) {
	switch len(args) {
	case 0:
		return netip.Prefix{}, nil
	case 1:
		var p config.Prefix
		if err := p.UnmarshalText([]byte(args[0])); err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix", args[0])
		}
		return p.Prefix, nil
	}
	return netip.Prefix{}, errors.New("write one address or prefix, or none")
}

func printInventory(out io.Writer, sources []inventory.SourceHealth, held []inventory.Held) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, s := range sources {
		state := "fresh"
		switch {
		case s.Seen.IsZero():
			state = "never read: nobody is known by it"
		case s.Stale:
			state = "stale: nobody is acted on by it"
		}
		if s.Error != "" {
			state += "; " + s.Error
		}
		age := "-"
		if !s.Seen.IsZero() {
			age = s.Age.Round(time.Second).String()
		}
		_, _ = fmt.Fprintf(w, "source %s\t%d entries\tread %s ago\t%s\n", s.Name, s.Entries, age, state)
	}
	if len(sources) > 0 {
		_, _ = fmt.Fprintln(w) // Flush tells of it
	}
	_, _ = fmt.Fprintln(w, "prefix\ttenant\tserver\thypervisor\tNICs\tsince\tknown by\t")
	for _, h := range held {
		since := "-"
		if !h.From.IsZero() {
			since = h.From.UTC().Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Prefix, dash(h.Tenant), dash(h.VDS), dash(h.Hypervisor), dash(strings.Join(h.NICs, ",")), since,
			strings.Join(h.Told, ", "), remark(h))
	}
	return w.Flush()
}

// remark is what is doubtful about a holder, or was left out.
func remark(h inventory.Held) string {
	switch {
	case h.Doubt == flow.DoubtStale:
		return "STALE, acted on by a person's approval only: " + h.DoubtWhy
	case h.Doubt != "":
		return fmt.Sprintf("%s, never acted on: %s", strings.ToUpper(string(h.Doubt)), h.DoubtWhy)
	case h.Ignored != "":
		return "ignored: " + h.Ignored
	}
	return ""
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// inventoryWarning is what people should know of the inventory and its sources;
// it stops nothing. Empty: nothing.
func inventoryWarning(c config.Config, inv *inventory.Inventory) string {
	var out []string
	if w := finerThanTenants(c, inv); w != "" {
		out = append(out, w)
	}
	for _, s := range inv.Sources() {
		switch {
		case s.Seen.IsZero():
			out = append(out, fmt.Sprintf("source %s was never read; flowcordon inventory --read tries it", s.Name))
		case s.Stale:
			out = append(out, fmt.Sprintf("source %s was read %s ago: nobody is acted on by it", s.Name, s.Age.Round(time.Second)))
		}
	}
	for doubt, what := range map[flow.Doubt]string{
		flow.DoubtDisputed: "the sources contradict each other", flow.DoubtForgeable: "only the servers themselves say so",
	} {
		if ps := inv.Doubtful()[doubt]; len(ps) > 0 {
			out = append(out, fmt.Sprintf("%d prefixes are not acted on because %s, the first is %s; flowcordon inventory lists them", len(ps), what, ps[0]))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
