package detect

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"

	"github.com/flowcordon/flowcordon/flow"
)

// maxTogether is how many overrides of one rule are checked in every
// combination; of more, each alone and all together.
const maxTogether = 10

func (c *Config) validateOverrides(v *validator) {
	before := len(v.errs)
	for i := range c.Overrides {
		c.Overrides[i].validate(v, c, fmt.Sprintf("overrides[%d]", i))
	}
	if len(v.errs) > before {
		return
	}
	for _, r := range rules {
		var touch []int
		for _, i := range c.inheritance() {
			if len(c.Overrides[i].Rules[r]) > 0 {
				touch = append(touch, i)
			}
		}
		for _, set := range combinations(touch) {
			if !c.validTogether(v, r, set) {
				break // the wider ones only repeat it
			}
		}
	}
}

// combinations are the subsets to check, smaller ones first.
func combinations(l []int) [][]int {
	var out [][]int
	if len(l) > maxTogether {
		for _, i := range l {
			out = append(out, []int{i})
		}
		return append(out, l)
	}
	for bits := 1; bits < 1<<len(l); bits++ {
		var set []int
		for i := range l {
			if bits&(1<<i) != 0 {
				set = append(set, l[i])
			}
		}
		out = append(out, set)
	}
	sort.SliceStable(out, func(a, b int) bool { return len(out[a]) < len(out[b]) })
	return out
}

// validTogether checks a rule's thresholds as they are for whom a set of
// overrides matches.
func (c *Config) validTogether(v *validator, r flow.Rule, set []int) bool {
	t := c.Thresholds
	for _, i := range set {
		if err := c.Overrides[i].apply(&t); err != nil {
			return false // told before
		}
	}
	last := set[len(set)-1]
	one := &validator{}
	t.of(r).(interface{ validate(*validator, string) }).validate(one, fmt.Sprintf("overrides[%d].rules.%s", last, r))
	for _, err := range one.errs {
		if len(set) > 1 {
			err = fmt.Errorf("%w, where overrides%v meet", err, set)
		}
		v.errs = append(v.errs, err)
	}
	return len(one.errs) == 0
}

func (o *Override) validate(v *validator, c *Config, path string) {
	set := 0
	for _, is := range []bool{o.Match.Prefix.IsValid(), o.Match.Tenant != "", o.Match.Tag != "", o.Match.Plan != ""} {
		if is {
			set++
		}
	}
	switch p := o.Match.Prefix; {
	case set != 1:
		v.add(path+".match", "has %d of prefix, tenant, tag and plan: write exactly one, as {prefix: 198.51.100.0/24}", set)
	case p.IsValid() && (p.Addr().Is4In6() || p != p.Masked()):
		v.add(path+".match.prefix", "is %v: write %v", p, netip.PrefixFrom(p.Addr().Unmap(), min(p.Bits(), p.Addr().Unmap().BitLen())).Masked())
	}
	if len(o.Rules) == 0 {
		v.add(path+".rules", "is empty: write what is different, as {netscan: {suspend_score: 60}}")
	}
	var t Thresholds
	for _, r := range sortedKeys(o.Rules) {
		at := path + ".rules." + string(r)
		rule := t.of(r)
		if rule == nil {
			v.add(at, "has no detector in this release: there are %v", rules)
			continue
		}
		for _, key := range sortedKeys(o.Rules[r]) {
			text := o.Rules[r][key]
			if key != keyMode {
				if err := setThreshold(rule, key, text); err != nil {
					v.add(at+"."+key, "%v", err)
				}
				continue
			}
			rank, ok := modeRank[flow.Mode(text)]
			switch all := c.mode(r); {
			case !ok || rank > modeRank[flow.ModeNotify]:
				v.add(at+".mode", "is %q: write off, observe or notify; what may act is for all tenants, in rules", text)
			case rank > modeRank[all]:
				v.add(at+".mode", "is %s, more than rules.%s.mode (%s): raise that, and lower it for the others", text, r, all)
			}
		}
	}
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
