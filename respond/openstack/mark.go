package openstack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flowcordon/flowcordon/flow"
)

// A mark stands in tags: on the port for a cut, on our security group for a
// port block. Tags and not the port's description, because each is set and
// removed by a call of its own, so that the user's are never written, and
// because a description holds 255 characters with the user's in them.
//
// tagName finds them all with one call. The mark itself is JSON in URL-safe
// base64, over as many tags as it needs: flowcordon.1of2.eyJpbmNpZ…
const (
	tagName = "flowcordon"

	// maxChunk keeps a tag within Neutron's 255 characters (neutron
	// extensions/tagging.py, MAX_TAG_LEN; 60 before 2022).
	maxChunk = 220

	// maxReason keeps the mark in a few tags, each of which is a call.
	maxReason = 200
)

var chunkTag = regexp.MustCompile(`^flowcordon\.([0-9]{1,2})of([0-9]{1,2})\.([A-Za-z0-9_-]+)$`)

// mark is ours, with what a restore goes back to.
type mark struct {
	flow.Mark
	VDS string     `json:"vds,omitempty"`
	MAC string     `json:"mac,omitempty"`
	IP  netip.Addr `json:"ip,omitzero"`
	Up  bool       `json:"up,omitempty"` // of a cut: the port was up

	// Of a port block.
	Port   string          `json:"port,omitempty"`   // its id
	Ports  []flow.PortRule `json:"ports,omitempty"`  // what is blocked
	Groups []string        `json:"groups,omitempty"` // the port's former security groups
}

func (m mark) tags() ([]string, error) {
	m.Reason = shorten(m.Reason)
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the mark: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(raw)
	chunks := slices.Collect(slices.Chunk([]byte(text), maxChunk))
	if len(chunks) > 99 {
		return nil, fail(flow.ErrUnsupported, "the mark needs %d tags: too many former security groups", len(chunks))
	}
	var out []string
	for i, c := range chunks {
		out = append(out, fmt.Sprintf("%s.%dof%d.%s", tagName, i+1, len(chunks), c))
	}
	return append(out, tagName), nil
}

// markOf is the mark in tags, nil if there is none or but a part of one: a part
// is what an interrupted call leaves, which did not act yet or acted already.
func markOf(tags []string) *mark {
	parts := map[int]string{}
	total := 0
	for _, t := range tags {
		if f := chunkTag.FindStringSubmatch(t); f != nil {
			i, _ := strconv.Atoi(f[1])
			n, _ := strconv.Atoi(f[2])
			if total != 0 && n != total || parts[i] != "" {
				return nil
			}
			total, parts[i] = n, f[3]
		}
	}
	if total == 0 || len(parts) != total {
		return nil
	}
	var text strings.Builder
	for i := 1; i <= total; i++ {
		if parts[i] == "" {
			return nil
		}
		text.WriteString(parts[i])
	}
	raw, err := base64.RawURLEncoding.DecodeString(text.String())
	if err != nil {
		return nil
	}
	var m mark
	if json.Unmarshal(raw, &m) != nil || m.Incident == "" {
		return nil
	}
	return &m
}

// ourTags are those of tags that we set.
func ourTags(tags []string) []string {
	var out []string
	for _, t := range tags {
		if t == tagName || chunkTag.MatchString(t) {
			out = append(out, t)
		}
	}
	return out
}

// setTags makes want the tags of ours on a resource, such as ports/{id}.
func (c *client) setTags(ctx context.Context, resource string, have, want []string) error {
	for _, t := range ourTags(have) {
		if !slices.Contains(want, t) {
			if err := c.remove(ctx, resource+"/tags/"+t); err != nil {
				return fmt.Errorf("remove our tag: %w", err)
			}
		}
	}
	for _, t := range want {
		if !slices.Contains(have, t) {
			if err := c.call(ctx, http.MethodPut, resource+"/tags/"+t, nil, nil, nil, nil); err != nil {
				return fmt.Errorf("set our tag: %w", err)
			}
		}
	}
	return nil
}

func shorten(s string) string {
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
