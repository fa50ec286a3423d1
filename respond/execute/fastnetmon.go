package execute

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
	"go.uber.org/zap"
)

// direction is what FastNetMon calls traffic that a host of ours sends.
const direction = "outgoing"

// ban is an address that the script was told to ban.
type ban struct {
	NIC  flow.NIC  `json:"nic"`
	Mark flow.Mark `json:"mark"`
	PPS  uint64    `json:"pps"` // as it was told; FastNetMon's unban repeats it
	// Done is false from before the script runs until it has ended well: what
	// came of it is then not known.
	Done bool `json:"done"`
}

func (b ban) status() flow.NICStatus {
	m := b.Mark
	st := flow.NICStatus{Live: flow.LinkDown, Config: flow.LinkDown, Running: true, Mark: &m}
	if !b.Done {
		st.Live, st.Config = flow.LinkUnknown, flow.LinkUnknown
	}
	return st
}

var free = flow.NICStatus{Live: flow.LinkUp, Config: flow.LinkUp, Running: true}

type bans map[netip.Addr]ban

type bansFile struct {
	Version int   `json:"version"`
	Bans    []ban `json:"bans"`
}

func (a *Adapter) bansPath() string { return filepath.Join(a.cfg.Dir, "exec-"+a.cfg.Name+".json") }

// withBans runs fn in its turn with the file's content. A script that cannot
// say what it banned is run by one operation at a time.
func withBans[T any](ctx context.Context, a *Adapter, fn func(bans) (T, error)) (T, error) {
	var zero T
	if a.invalid != nil {
		return zero, fail(flow.ErrUnsupported, "configuration: %w", a.invalid)
	}
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
	b, err := loadBans(a.bansPath())
	if err != nil {
		return zero, err
	}
	return fn(b)
}

func loadBans(path string) (bans, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return bans{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is banned: %w", err)
	}
	var f bansFile
	if err := json.Unmarshal(text, &f); err != nil || f.Version != 1 {
		return nil, fail(flow.ErrDenied, "%s is damaged or of another version; a human must see what the script has banned, and move the file away", path)
	}
	out := bans{}
	for _, b := range f.Bans {
		out[b.NIC.IP] = b
	}
	return out, nil
}

// save replaces the file so that a crash leaves the old or the new one whole.
func (b bans) save(path string) error {
	f := bansFile{Version: 1, Bans: slices.SortedFunc(maps.Values(b), func(x, y ban) int { return x.NIC.IP.Compare(y.NIC.IP) })}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode what is banned: %w", err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write what is banned: %w", err)
	}
	tmp, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write what is banned: %w", err)
	}
	_, err = tmp.Write(append(text, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(filepath.Dir(path)); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("write what is banned: %w", err)
	}
	return nil
}

func address(nic flow.NIC) (netip.Addr, error) {
	ip := nic.IP.Unmap().WithZone("")
	if !ip.IsValid() {
		return ip, fail(flow.ErrNotFound, "the inventory names no address for this NIC, and the script knows nothing else")
	}
	return ip, nil
}

func (a *Adapter) banned(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	return withBans(ctx, a, func(all bans) (flow.NICStatus, error) {
		ip, err := address(nic)
		if b, ok := all[ip]; ok {
			return b.status(), err
		}
		return free, err
	})
}

// ban tells the script to ban. The mark is written first: a crash in between
// shows as an unknown state, and the repeat runs the script again.
func (a *Adapter) ban(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	return withBans(ctx, a, func(all bans) (flow.Receipt, error) {
		ip, err := address(nic)
		if err != nil {
			return flow.Receipt{}, err
		}
		old, marked := all[ip]
		if marked && old.Mark.Incident != m.Incident {
			return flow.Receipt{}, fail(flow.ErrConflict, "%s is already banned for incident %s by %s", ip, old.Mark.Incident, old.Mark.By)
		}
		b := old
		if !marked || !old.Done {
			attack := a.attack(ctx, m.Incident)
			b = ban{NIC: nic, Mark: m, PPS: attack.PPS}
			b.NIC.IP, b.NIC.Hypervisor = ip, a.cfg.Name
			all[ip] = b
			if err := all.save(a.bansPath()); err != nil {
				return flow.Receipt{}, err
			}
			if err := a.tellScript(ctx, b, attack); err != nil {
				return flow.Receipt{}, err
			}
			b.Done = true
		}
		b.Mark.Key = m.Key
		all[ip] = b
		if err := all.save(a.bansPath()); err != nil {
			return flow.Receipt{}, err
		}
		return flow.Receipt{NIC: nic, Before: free, After: b.status(), At: a.now().UTC()}, nil
	})
}

func (a *Adapter) tellScript(ctx context.Context, b ban, attack Attack) error {
	details := details(b, attack)
	if _, err := a.run(ctx, arguments(b, "ban"), details); err != nil {
		return err
	}
	if a.cfg.AttackDetails {
		if _, err := a.run(ctx, arguments(b, "attack_details"), details); err != nil {
			a.log.Warn("the address is banned, but the script did not take the details", zap.Stringer("ip", b.NIC.IP), zap.Error(err))
		}
	}
	return nil
}

// unban tells the script to unban what it was told to ban, also when it is not
// known whether it did.
func (a *Adapter) unban(ctx context.Context, nic flow.NIC, m flow.Mark) (bool, error) {
	return withBans(ctx, a, func(all bans) (bool, error) {
		ip, err := address(nic)
		if err != nil {
			return false, err
		}
		b, ok := all[ip]
		if !ok {
			return false, nil
		}
		if b.Mark.Incident != m.Incident {
			return false, fail(flow.ErrConflict, "%s is banned for incident %s by %s, not for %s; it stays as it is", ip, b.Mark.Incident, b.Mark.By, m.Incident)
		}
		if _, err := a.run(ctx, arguments(b, "unban"), nil); err != nil {
			return false, err
		}
		delete(all, ip)
		return true, all.save(a.bansPath())
	})
}

func (a *Adapter) allBanned(ctx context.Context) ([]flow.MarkedNIC, error) {
	return withBans(ctx, a, func(all bans) ([]flow.MarkedNIC, error) {
		var out []flow.MarkedNIC
		for _, ip := range slices.SortedFunc(maps.Keys(all), netip.Addr.Compare) {
			out = append(out, flow.MarkedNIC{NIC: all[ip].NIC, Status: all[ip].status()})
		}
		return out, nil
	})
}

// arguments are those of FastNetMon's notify script: $1 client_ip_as_string,
// $2 data_direction, $3 pps_as_string, $4 action.
func arguments(b ban, action string) []string {
	return []string{b.NIC.IP.String(), direction, strconv.FormatUint(b.PPS, 10), action}
}

// details are the first lines of FastNetMon's description of an attack, which
// scripts pick values from, and ours.
func details(b ban, attack Attack) []byte {
	var t bytes.Buffer
	line := func(name, format string, args ...any) {
		text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ") // a value stays on its line
		fmt.Fprintf(&t, "%s: %s\n", name, text)
	}
	line("IP", "%s", b.NIC.IP)
	line("Attack type", "%s", cmp.Or(attack.Type, "unknown"))
	line("Initial attack power", "%d packets per second", b.PPS)
	line("Peak attack power", "%d packets per second", b.PPS)
	line("Attack direction", "%s", direction)
	line("Attack protocol", "%s", cmp.Or(attack.Protocol, "unknown"))
	line("Total outgoing pps", "%d packets per second", b.PPS)
	line("Incident", "%s", b.Mark.Incident)
	line("Reason", "%s", b.Mark.Reason)
	line("VDS", "%s", b.NIC.VDS)
	line("MAC", "%s", b.NIC.MAC)
	if attack.Text != "" {
		t.WriteString("\n" + strings.TrimRight(attack.Text, "\n") + "\n")
	}
	return t.Bytes()
}
