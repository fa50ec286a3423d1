package detect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// Override changes numbers of rules for some tenants. All that match a tenant
// count, one laid over the other: first those of a tag, then of a plan, of a
// customer, and of a prefix, the shorter before the longer; of equal ones the
// later in the list is laid over the earlier. What none of them says is
// inherited from thresholds and rules.
type Override struct {
	Match Match `yaml:"match"`
	// Rules has, for each rule, keys of its thresholds and their values, and mode.
	// Lists are for all tenants and cannot be changed here.
	Rules map[flow.Rule]map[string]string `yaml:"rules"`
}

// Match says whom an Override is for: exactly one of its fields is set.
type Match struct {
	Prefix netip.Prefix `yaml:"prefix"` // of the tenant's address
	Tenant string       `yaml:"tenant"` // customer id of the inventory
	Tag    string       `yaml:"tag"`    // role tag of the inventory
	Plan   string       `yaml:"plan"`   // the inventory's tag plan:NAME
}

// TagPlan begins the tag by which the inventory names a holder's plan.
const TagPlan = "plan:"

// String is the match as Explain prints it.
func (m Match) String() string {
	switch {
	case m.Prefix.IsValid():
		return "prefix " + m.Prefix.String()
	case m.Tenant != "":
		return "tenant " + m.Tenant
	case m.Plan != "":
		return "plan " + m.Plan
	}
	return "tag " + m.Tag
}

// rank orders matches from the widest to the narrowest.
func (m Match) rank() int {
	switch {
	case m.Prefix.IsValid():
		return 3 + m.Prefix.Bits()
	case m.Tenant != "":
		return 2
	case m.Plan != "":
		return 1
	}
	return 0
}

func (m Match) covers(tenant netip.Addr, h flow.Holder, tags []string) bool {
	switch {
	case m.Prefix.IsValid():
		return m.Prefix.Contains(tenant)
	case m.Tenant != "":
		return m.Tenant == h.Tenant
	case m.Plan != "":
		return slices.Contains(tags, TagPlan+m.Plan)
	}
	return slices.Contains(tags, m.Tag)
}

const keyMode = "mode"

// modeRank orders modes by what they allow.
var modeRank = map[flow.Mode]int{flow.ModeOff: 0, flow.ModeObserve: 1, flow.ModeNotify: 2, flow.ModeApprove: 3, flow.ModeEnforce: 4}

func (c *Config) mode(r flow.Rule) flow.Mode { return cmp.Or(c.Rules[r].Mode, flow.ModeObserve) }

// of returns the thresholds of one rule, a pointer to a struct.
func (t *Thresholds) of(r flow.Rule) any {
	switch r {
	case flow.RuleNetscan:
		return &t.Netscan
	case flow.RulePortscan:
		return &t.Portscan
	case flow.RuleBlockscan:
		return &t.Blockscan
	case flow.RuleUDPSweep:
		return &t.UDPSweep
	case flow.RuleICMPSweep:
		return &t.ICMPSweep
	case flow.RuleSYNFlood:
		return &t.SYNFlood
	case flow.RuleUDPFlood:
		return &t.UDPFlood
	case flow.RuleICMPFlood:
		return &t.ICMPFlood
	case flow.RulePacketFlood:
		return &t.PacketFlood
	case flow.RuleReflector:
		return &t.Reflector
	case flow.RuleSpam:
		return &t.Spam
	case flow.RuleBruteforce:
		return &t.Bruteforce
	case flow.RuleBlockedPort:
		return &t.BlockedPort
	case flow.RuleSpoofed:
		return &t.Spoofed
	}
	return nil
}

// field finds a threshold by its key in the configuration.
func thresholdField(rule any, key string) (reflect.Value, bool) {
	v := reflect.ValueOf(rule).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func thresholdKeys(rule any) []string {
	t := reflect.TypeOf(rule).Elem()
	var out []string
	for i := range t.NumField() {
		if k := t.Field(i).Type.Kind(); k != reflect.Slice {
			out = append(out, t.Field(i).Tag.Get("yaml"))
		}
	}
	return append(out, keyMode)
}

// setThreshold writes one value; the error says what to write instead.
func setThreshold(rule any, key, text string) error {
	f, ok := thresholdField(rule, key)
	if !ok {
		return fmt.Errorf("is no threshold of this rule: there are %s", strings.Join(thresholdKeys(rule), ", "))
	}
	text = strings.ReplaceAll(text, "_", "")
	switch f.Kind() {
	case reflect.Slice:
		return fmt.Errorf("is a list, which is for all tenants: write it in thresholds")
	case reflect.String:
		f.SetString(text)
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("is %q: write a number", text)
		}
		f.SetFloat(x)
	case reflect.Int:
		x, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("is %q: write a whole number", text)
		}
		f.SetInt(x)
	default:
		x, err := strconv.ParseUint(text, 10, f.Type().Bits())
		if err != nil {
			return fmt.Errorf("is %q: write a whole number from 0 on", text)
		}
		f.SetUint(x)
	}
	return nil
}

// apply lays an override's numbers over t. Its values were checked by Validate.
func (o *Override) apply(t *Thresholds) error {
	for r, values := range o.Rules {
		for key, text := range values {
			if key == keyMode {
				continue
			}
			rule := t.of(r)
			if rule == nil {
				return fmt.Errorf("%s has no detector", r)
			}
			if err := setThreshold(rule, key, text); err != nil {
				return fmt.Errorf("%s.%s %w", r, key, err)
			}
		}
	}
	return nil
}

// inheritance returns the overrides' indexes from the widest to the narrowest.
func (c *Config) inheritance() []int {
	order := make([]int, len(c.Overrides))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(c.Overrides[a].Match.rank(), c.Overrides[b].Match.rank())
	})
	return order
}

// loosest has, of every number, the one that lets most pass: what the screens
// in the store ask by, so that no tenant's own thresholds are cut short.
func (c *Config) loosest() Thresholds {
	loose := c.Thresholds
	for i := range c.Overrides {
		own := c.Thresholds
		if c.Overrides[i].apply(&own) != nil {
			continue // Validate refuses it
		}
		for _, r := range rules {
			into, from := reflect.ValueOf(loose.of(r)).Elem(), reflect.ValueOf(own.of(r)).Elem()
			for j := range into.NumField() {
				looser(into.Field(j), from.Field(j), strings.HasSuffix(into.Type().Field(j).Tag.Get("yaml"), "return"))
			}
		}
	}
	return loose
}

// looser sets a to b where b is lower, or higher with shares of what comes back.
func looser(a, b reflect.Value, high bool) {
	switch a.Kind() {
	case reflect.Float64:
		if (b.Float() < a.Float()) != high && b.Float() != a.Float() {
			a.SetFloat(b.Float())
		}
	case reflect.Uint64, reflect.Uint16:
		if b.Uint() < a.Uint() {
			a.SetUint(b.Uint())
		}
	}
}

// flatten writes a rule's thresholds as key and text, for Explain.
func flatten(rule any) map[string]string {
	v := reflect.ValueOf(rule).Elem()
	out := map[string]string{}
	for i := range v.NumField() {
		b, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			panic("detect: a threshold cannot be encoded: " + err.Error())
		}
		out[v.Type().Field(i).Tag.Get("yaml")] = string(b)
	}
	return out
}
