package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/respond/notice"
)

// runNotify is "notify test": it sends examples, which say that they are, over
// the channels of a configuration.
func runNotify(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("notify test", flag.ContinueOnError)
	fs.SetOutput(stderr)
	path := fs.String("config", "/etc/flowcordon/flowcordon.yaml", "configuration `file`")
	to := fs.String("to", "", "mail `address` that stands in for a customer's; without it customers' examples are left out")
	language := fs.String("language", "", "of the stand-in, `en or ru`")
	kinds := fs.String("kinds", "", "`list` of kinds separated by commas; empty: all")
	if len(args) == 0 || args[0] != "test" {
		fmt.Fprintln(stderr, "usage: flowcordon notify test --config F [--to ADDRESS] [--language L] [--kinds K,K]")
		return 2
	}
	if err := fs.Parse(args[1:]); err != nil || fs.NArg() > 0 {
		return 2
	}
	cfg, err := config.Load(*path)
	if err != nil {
		return configFailed(err, stderr)
	}
	links, err := portalLinks(cfg.Respond)
	if err != nil {
		return configFailed(err, stderr)
	}
	out, err := notifiers(cfg.Respond, links, zap.NewNop(), nil)
	if err != nil {
		return configFailed(err, stderr)
	}
	if len(out) == 0 {
		fmt.Fprintln(stderr, "respond.notify has no channel; write for example email: {address: mail.example:587, from: abuse@example.net}")
		return 1
	}
	t := notice.Trial{To: *to, Language: *language, At: time.Now()}
	if *kinds != "" {
		t.Kinds = strings.Split(*kinds, ",")
	}
	failed := 0
	for _, r := range notice.Try(ctx, out, t) {
		said := "ok"
		if r.Err != nil {
			said = r.Err.Error()
			failed++
		}
		fmt.Fprintf(stdout, "%-20s %-16s %s\n", r.Notifier, r.Kind, said)
	}
	if failed > 0 {
		fmt.Fprintf(stderr, "%d example(s) were not taken\n", failed)
		return 1
	}
	return 0
}
