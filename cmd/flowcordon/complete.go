package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// The scripts know nothing: they hand the words to "flowcordon __complete",
// which prints what could stand in the place of the last, one a line, with what
// it is behind a tab. A line "\tfiles" alone stands for the names of files.
const (
	completeWord  = "__complete"
	completeFiles = "\tfiles"
)

const bashCompletion = `# flowcordon: completion for bash. source <(flowcordon completion bash)
_flowcordon() {
    local line word cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=()
    # A word like 2001:db8::1 comes in parts where : ends words.
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local cword
        _get_comp_words_by_ref -n =: cur words cword
        words=("${words[@]:1:cword}")
    fi
    while IFS= read -r line; do
        if [ "$line" = $'\tfiles' ]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$cur")
            continue
        fi
        word=${line%%$'\t'*}
        [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
    done < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null)
    if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
    return 0
}
complete -F _flowcordon flowcordon
`

const zshCompletion = `#compdef flowcordon
# flowcordon: completion for zsh. source <(flowcordon completion zsh), or as _flowcordon in $fpath.
_flowcordon() {
    local line word what
    local -a found
    for line in "${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -z $line ]] && continue
        if [[ $line == $'\tfiles' ]]; then
            _files
            continue
        fi
        word=${line%%$'\t'*}
        what=${line#*$'\t'}
        found+=("${word//:/\\:}:$what")
    done
    (( $#found )) && _describe -t values flowcordon found
    return 0
}
if [[ ${funcstack[1]-} == _flowcordon ]]; then
    _flowcordon "$@"
else
    compdef _flowcordon flowcordon
fi
`

const fishCompletion = `# flowcordon: completion for fish. flowcordon completion fish | source
function __flowcordon_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)
        if test "$line" = \tfiles
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c flowcordon -f -a '(__flowcordon_complete)'
`

func runCompletion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	if len(args) == 1 && scripts[args[0]] != "" {
		if _, err := io.WriteString(stdout, scripts[args[0]]); err != nil {
			return exitFailed
		}
		return 0
	}
	fmt.Fprint(stderr, "usage: flowcordon completion bash|zsh|fish\n"+
		"  bash: source <(flowcordon completion bash)          in ~/.bashrc\n"+
		"  zsh:  source <(flowcordon completion zsh)           in ~/.zshrc, after compinit\n"+
		"  fish: flowcordon completion fish | source           in ~/.config/fish/config.fish\n")
	return exitUsage
}

// runComplete is what the scripts call. It never fails: what it does not know
// it leaves out.
func runComplete(ctx context.Context, args []string, stdout, _ io.Writer) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		args = []string{""}
	}
	ctx, cancel := context.WithTimeout(ctx, completePatience())
	defer cancel()
	last := args[len(args)-1]
	for _, c := range candidates(ctx, args[:len(args)-1], last) {
		if c == completeFiles {
			fmt.Fprintln(stdout, c)
		} else if word, what, _ := strings.Cut(c, "\t"); strings.HasPrefix(word, last) {
			fmt.Fprintf(stdout, "%s\t%s\n", clean(word), clean(what))
		}
	}
	return 0
}

// completePatience is how long the service may take: a person waits with a
// finger on the key. FLOWCORDON_COMPLETE_TIMEOUT is for slow lines.
func completePatience() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("FLOWCORDON_COMPLETE_TIMEOUT")); err == nil && d > 0 {
		return d
	}
	return 2 * time.Second
}

// candidates are the words that can stand after before. word is what there is of it.
func candidates(ctx context.Context, before []string, word string) []string {
	if len(before) == 0 {
		var out []string
		for _, c := range commands() {
			if c.what != "" {
				out = append(out, c.name+"\t"+c.what)
			}
		}
		return out
	}
	c, rest, ok := findDesk(before)
	if !ok {
		return otherCandidates(before, word)
	}
	var f deskFlags
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f.flags(fs, c)
	c.setup(fs)
	if name, ok := openFlag(fs, rest); ok {
		return flagValues(ctx, &f, fs, name, rest)
	}
	if name, _, ok := strings.Cut(word, "="); ok && strings.HasPrefix(word, "-") {
		out := slices.Clone(flagValues(ctx, &f, fs, strings.TrimLeft(name, "-"), rest))
		for i := range out {
			if out[i] != completeFiles {
				out[i] = name + "=" + out[i]
			}
		}
		return out
	}
	if strings.HasPrefix(word, "-") {
		var out []string
		fs.VisitAll(func(x *flag.Flag) {
			_, what := flag.UnquoteUsage(x)
			out = append(out, "--"+x.Name+"\t"+what)
		})
		return out
	}
	args := positional(fs, rest)
	var out []string
	if len(args) == 0 && c.name == strings.Join(before, " ") { // nothing in between
		for _, sub := range deskCommands() {
			if name, ok := strings.CutPrefix(sub.name, c.name+" "); ok {
				out = append(out, name+"\t"+sub.what)
			}
		}
	}
	switch {
	case len(args) == 0 && c.argument != "":
		out = append(out, f.ask(ctx, fs, rest, c.argument)...)
	case len(args) == 1:
		out = append(out, secondArgument[c.name]...)
	}
	return out
}

// otherCandidates are those of the commands that are not the desk's.
func otherCandidates(before []string, word string) []string {
	switch {
	case before[0] == "completion" && len(before) == 1:
		return []string{"bash", "zsh", "fish"}
	case before[0] == "notify" && len(before) == 1:
		return []string{"test"}
	case before[0] == "match" && before[len(before)-1] == "--reply":
		return []string{"en", "ru"}
	case slices.ContainsFunc(commands(), func(c command) bool { return c.name == before[0] }) && !strings.HasPrefix(word, "-"):
		return []string{completeFiles}
	}
	return nil
}

// openFlag is the flag whose value comes next, if the words end with one.
func openFlag(fs *flag.FlagSet, words []string) (string, bool) {
	if len(words) == 0 {
		return "", false
	}
	last := words[len(words)-1]
	name := strings.TrimLeft(last, "-")
	x := fs.Lookup(name)
	return name, strings.HasPrefix(last, "-") && x != nil && !isBool(x)
}

func isBool(x *flag.Flag) bool {
	b, ok := x.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// positional are the words that are neither flags nor their values.
func positional(fs *flag.FlagSet, words []string) []string {
	var out []string
	for i := 0; i < len(words); i++ {
		w := words[i]
		if !strings.HasPrefix(w, "-") || w == "-" {
			out = append(out, w)
			continue
		}
		if x := fs.Lookup(strings.TrimLeft(w, "-")); x != nil && !isBool(x) {
			i++
		}
	}
	return out
}

// flagValues are the values of the closed sets; others are asked of the service.
func flagValues(ctx context.Context, f *deskFlags, fs *flag.FlagSet, name string, words []string) []string {
	switch name {
	case "token-file", "ca", "config", "o":
		return []string{completeFiles}
	case "incident":
		return f.ask(ctx, fs, words, "incident")
	case "rule":
		return f.ask(ctx, fs, words, "rule")
	case "customer":
		return f.ask(ctx, fs, words, "customer")
	case "tenant":
		return f.ask(ctx, fs, words, "host")
	case "state":
		return incidentStates
	case "status":
		return statusValues[fs.Name()]
	}
	return closedValues[name]
}

var secondArgument = map[string][]string{"rules mark": {"right", "wrong", "unsure"}, "cases status": {"open", "answered", "closed"}}

var closedValues = map[string][]string{
	"by": {"out_bytes", "out_packets", "in_bytes", "in_packets", "syn"}, "dir": {"out", "in"}, "proto": {"tcp", "udp", "icmp", "icmpv6"},
	"format": {"table", "csv", "jsonl", "json"}, "form": {"netscan", "summary", "packets"}, "for": {"staff", "outside"},
	"tier": {"log", "notify", "block_port", "suspend"}, "verdict": {"right", "wrong", "unmarked"},
	"since": {"-1h", "-24h", "-168h"}, "from": {"-15m", "-1h", "-24h"}, "window": {"5m", "1h", "24h"}, "watch": {"2s", "10s", "1m"}, "block": {"tcp/22", "tcp/25", "udp/53"},
	"reply": {"en", "ru"}, "expires": {"+24h", "+72h", "+720h"}, "order": {"newest", "oldest"}, "flags": {"SYN", "SYN,ACK", "RST"},
	"class": {"other", "syn", "synack", "rst", "est", "udp", "echo", "icmp_err", "noflags"},
}

var statusValues = map[string][]string{"cases": {"open", "answered", "closed", "all"}, "exemptions": {"active", "expired", "removed", "all"}}

var incidentStates = []string{"live\tall that are not over", "all\tevery one", "open", "notified", "held", "awaiting_approval", "suspending", "suspended", "verified",
	"unverified", "failed", "releasing", "released", "closed"}

// ask asks the service that the words, the environment or the configuration
// name. Whatever goes wrong, there are no candidates.
func (f *deskFlags) ask(ctx context.Context, fs *flag.FlagSet, words []string, what string) []string {
	_, _ = parseMixed(fs, words) // for --url and the like; the rest may be half written
	d := &desk{out: io.Discard, errs: io.Discard, timeout: completePatience(), now: time.Now}
	if err := d.connect(&f.remote, api.RoleViewer); err != nil {
		return nil
	}
	return asked[what](ctx, d)
}

var asked = map[string]func(ctx context.Context, d *desk) []string{
	"incident": func(ctx context.Context, d *desk) []string {
		limit := int64(100)
		l, _, err := get[apiclient.ListOutputBody](ctx, d, "", func(ctx context.Context) (*http.Response, error) {
			return d.api.Incidents(ctx, &apiclient.IncidentsParams{Limit: &limit})
		})
		if err != nil {
			return nil
		}
		var out []string
		for _, in := range l.Incidents {
			out = append(out, fmt.Sprintf("%s\t%s %s, %s", in.ID, in.Tenant, strings.Join(in.Rules, " "), in.State))
		}
		return out
	},
	"rule": func(ctx context.Context, d *desk) []string {
		// Those of this version, unless the service knows others.
		var out []string
		for _, r := range knownRules {
			out = append(out, string(r))
		}
		l, _, err := get[precisionList](ctx, d, "", func(ctx context.Context) (*http.Response, error) {
			return d.api.Precision(ctx, &apiclient.PrecisionParams{})
		})
		if err == nil {
			for _, p := range l.Precision {
				if !slices.Contains(out, p.Rule) {
					out = append(out, p.Rule)
				}
			}
		}
		return out
	},
	"host": func(ctx context.Context, d *desk) []string {
		limit := int64(50)
		o, _, err := get[apiclient.TopOutputBody](ctx, d, "", func(ctx context.Context) (*http.Response, error) {
			return d.api.Top(ctx, &apiclient.TopParams{Limit: &limit})
		})
		if err != nil {
			return nil
		}
		var out []string
		for _, e := range o.Top {
			who := ""
			if e.Holder != nil {
				who = holderName(*e.Holder)
			}
			out = append(out, e.Tenant+"\t"+who)
		}
		return out
	},
	"customer": func(ctx context.Context, d *desk) []string {
		limit := int64(500)
		l, _, err := get[apiclient.TenantsOutputBody](ctx, d, "", func(ctx context.Context) (*http.Response, error) {
			return d.api.Tenants(ctx, &apiclient.TenantsParams{Limit: &limit})
		})
		if err != nil {
			return nil
		}
		var out []string
		for _, r := range l.Tenants {
			out = append(out, r.Customer+"\t"+strings.Join(r.Vds, " "))
		}
		return out
	},
	"complaint": func(ctx context.Context, d *desk) []string {
		all := apiclient.ComplaintsParamsStatusAll
		l, _, err := get[apiclient.CasesListOutputBody](ctx, d, "", func(ctx context.Context) (*http.Response, error) {
			return d.api.Complaints(ctx, &apiclient.ComplaintsParams{Status: &all})
		})
		if err != nil {
			return nil
		}
		var out []string
		for i := range l.Complaints {
			out = append(out, fmt.Sprintf("%s\t%s, %s", l.Complaints[i].ID, l.Complaints[i].Host, l.Complaints[i].Status))
		}
		return out
	},
	"exemption": func(ctx context.Context, d *desk) []string {
		l, _, err := get[apiclient.ExemptionsOutputBody](ctx, d, "", func(ctx context.Context) (*http.Response, error) {
			return d.api.Exemptions(ctx, &apiclient.ExemptionsParams{})
		})
		if err != nil {
			return nil
		}
		var out []string
		for i := range l.Exemptions {
			out = append(out, l.Exemptions[i].ID+"\t"+exempts(&l.Exemptions[i]))
		}
		return out
	},
	"exporter": func(ctx context.Context, d *desk) []string {
		o, _, err := get[apiclient.ExportersOutputBody](ctx, d, "", func(ctx context.Context) (*http.Response, error) { return d.api.Exporters(ctx) })
		if err != nil {
			return nil
		}
		var out []string
		for _, e := range o.Exporters {
			out = append(out, e.Exporter+"\t"+strings.Join(e.Protocols, " "))
		}
		return out
	},
	"case": func(ctx context.Context, d *desk) []string {
		l, _, err := get[caseList](ctx, d, "", func(ctx context.Context) (*http.Response, error) {
			return d.api.Cases(ctx, &apiclient.CasesParams{})
		})
		if err != nil {
			return nil
		}
		var out []string
		for _, c := range l.Cases {
			out = append(out, fmt.Sprintf("%s\t%s, %d findings", c.ID, c.Tier, c.Findings))
		}
		return out
	},
}

var knownRules = []apiclient.FindingRule{apiclient.FindingRuleNetscan, apiclient.FindingRulePortscan, apiclient.FindingRuleBlockscan, apiclient.FindingRuleUDPSweep,
	apiclient.FindingRuleIcmpSweep, apiclient.FindingRuleSynFlood, apiclient.FindingRuleUDPFlood, apiclient.FindingRuleIcmpFlood, apiclient.FindingRulePacketFlood,
	apiclient.FindingRuleReflector, apiclient.FindingRuleSpam, apiclient.FindingRuleBruteforce, apiclient.FindingRuleBlockedPort, apiclient.FindingRuleSpoofedSource}
