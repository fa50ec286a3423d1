package bulk

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Truth is what was sent.
type Truth struct {
	// Hosts has the counts of every internal address that was in at least one
	// record. Counts are as exported; sampling is 1:1.
	Hosts     map[netip.Addr]flow.Counts
	Total     flow.Counts
	Records   uint64
	Datagrams uint64
	Bytes     uint64 // of UDP payload
	Elapsed   time.Duration
	// First and Last bound the event times of all records.
	First, Last time.Time
}

// Columns names the columns of the file that WriteTSV writes.
const Columns = "ip\tout_packets\tout_bytes\tin_packets\tin_bytes\tout_records\tin_records"

// WriteTSV writes one line per internal address, in order, after a header line.
func (t Truth) WriteTSV(w io.Writer) error {
	b := bufio.NewWriter(w)
	_, _ = fmt.Fprintln(b, Columns) // Flush returns the first error
	for _, ip := range slices.SortedFunc(maps.Keys(t.Hosts), netip.Addr.Compare) {
		c := t.Hosts[ip]
		_, _ = fmt.Fprintf(b, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", ip,
			c.OutPackets, c.OutBytes, c.InPackets, c.InBytes, c.OutRecords, c.InRecords)
	}
	return b.Flush()
}
