package decode

import (
	"bytes"
	"fmt"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
)

// plan reads the data records of one template. It is called only after the
// guard has found body to be exactly n whole records, n ≤ chunkRecords.
// Fields passed to visit are valid until it returns.
type plan interface {
	records(body []byte, n int, visit func(*fields)) error
}

// Private enterprise numbers that we read.
const penReverse = 29305 // RFC 5103 §6.1

// goflowPlan reads records with goflow2's generic decoder. It is the reference
// for any faster plan.
type goflowPlan struct {
	t *template
	f fields
}

func (p *goflowPlan) records(body []byte, n int, visit func(*fields)) error {
	// Options data too is decoded as one list, scope fields first (RFC 7011
	// §3.4.2.2): goflow2's own function for it reads two lists that it measures
	// apart, and drops what does not fit without a word.
	recs, err := netflow.DecodeDataSet(p.t.key.version, bytes.NewBuffer(body), p.t.fields)
	return p.visit(recs, err, n, visit)
}

func (p *goflowPlan) visit(recs []netflow.DataRecord, err error, n int, visit func(*fields)) error {
	// With variable-length fields only, goflow2 asks for one record more and
	// reports the end of the data as an error; the guard has counted.
	if len(recs) != n {
		return fmt.Errorf("decode data set: %d of %d records: %w", len(recs), n, err)
	}
	for i := range recs {
		p.f = fields{}
		for j := range recs[i].Values {
			v := &recs[i].Values[j]
			b, _ := v.Value.([]byte)
			switch {
			case j < p.t.scopes && p.t.key.version == 9:
				p.f.setScope9(v.Type, b)
			case !v.PenProvided:
				p.f.set(v.Type, b)
			case v.Pen == penReverse:
				p.f.setReverse(v.Type, b)
			}
		}
		visit(&p.f)
	}
	return nil
}

// setScope9 takes a scope field of NetFlow v9, whose types are not information
// elements (RFC 3954 §6.1): 1 system, 2 interface, 3 line card, 4 cache, 5
// template.
func (f *fields) setScope9(typ uint16, b []byte) {
	switch typ {
	case 2:
		f.u32(fInIf, &f.inIf, b)
	case 5:
		f.u64(fTemplateRef, &f.templateRef, b)
	}
}
