package libvirt

import (
	"context"
	"fmt"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

// Describe says in virsh's words what Cut or Restrict would do to the NIC as it
// is now, and changes nothing.
func (a *Adapter) Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	if me.Kind != flow.MeasureCut {
		if err := check(me, flow.Mark{Incident: "dry run"}); err != nil {
			return "", err
		}
	}
	e, err := a.cfg.endpoint()
	if err != nil {
		return "", classify("libvirt "+a.cfg.Name+": describe", fmt.Errorf("%w: %w", errConfig, err))
	}
	var b strings.Builder
	called := time.Now()
	err = a.do(ctx, "describe", func(ctx context.Context, s *session) error {
		t, err := a.finder.find(ctx, s, nic, called)
		if err != nil {
			return err
		}
		b.Reset() // it may be the second try
		fmt.Fprintf(&b, "# on %s, by %s of %s\n", s.host, e.driver, e.address)
		return t.describe(&b, me)
	})
	return b.String(), err
}

func (t *target) describe(b *strings.Builder, me flow.Measure) error {
	// The incident's own is only known when it comes to it.
	m := flow.Mark{Incident: "(incident)"}
	switch me.Kind {
	case flow.MeasureCut:
		if err := t.cuttable(); err != nil {
			return err
		}
		fmt.Fprintf(b, "virsh metadata %s --uri %s --key %s --set '%s'\n", t.dom.Name, metadataURI, metadataPrefix,
			"<cuts><nic mac=\""+t.mac+"\" incident=\"…\"/></cuts>")
		for _, sd := range t.sides() {
			if sd.nic != nil {
				fmt.Fprintf(b, "virsh domif-setlink %s %s down%s\n", t.dom.Name, t.mac, flagWord(sd))
			}
		}
		return nil
	default:
		if err := t.able(me.Kind); err != nil {
			return err
		}
	}
	steps, err := t.plan(me, &m)
	if err != nil {
		return err
	}
	seen := ""
	for _, st := range steps {
		if st.filter != "" && st.filter != seen {
			seen = st.filter
			name := filterPrefix + "(incident)"
			fmt.Fprintf(b, "virsh nwfilter-define <<XML\n%sXML\n",
				strings.NewReplacer(st.filter, name, "  <uuid>"+filterUUID(st.filter)+"</uuid>\n", "").
					Replace(filterXML(st.filter, st.former, me.Ports)))
		}
	}
	fmt.Fprintf(b, "virsh metadata %s --uri %s --key %s --set '<measures><nic mac=\"%s\" kind=\"%s\" incident=\"…\"/></measures>'\n",
		t.dom.Name, restrictURI, restrictPrefix, t.mac, me.Kind)
	for _, st := range steps {
		el := strings.ReplaceAll(st.el, st.filter, filterPrefix+"(incident)")
		if st.filter == "" {
			el = st.el
		}
		fmt.Fprintf(b, "virsh update-device %s /dev/stdin%s <<XML\n%s\nXML\n", t.dom.Name, flagWord(st.sd),
			st.sd.doc.with(*st.sd.nic, st.sd.element(me.Kind), el))
	}
	return nil
}

func flagWord(sd *side) string {
	if sd.flags == golibvirt.DomainAffectConfig {
		return " --config"
	}
	return " --live"
}
