package respond

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// incidentID is "FC-" and 50 bits of a hash over tenant and opening time: the
// same findings replayed give the same id, and it can be read over a phone.
func incidentID(tenant netip.Addr, opened time.Time) string {
	a := tenant.As16()
	var b [24]byte
	copy(b[:], a[:])
	binary.BigEndian.PutUint64(b[16:], uint64(opened.UnixNano()))
	sum := sha256.Sum256(b[:])
	return "FC-" + base32.StdEncoding.EncodeToString(sum[:])[:10]
}

// actionKey is the idempotency key of the next action of an incident. It
// depends on the log only, so it is the same after a restart.
func actionKey(r record, kind string) string {
	return fmt.Sprintf("%s-%s-%d", r.inc.ID, kind, r.intents+1)
}
