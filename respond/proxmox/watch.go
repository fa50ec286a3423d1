package proxmox

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// quietTasks do nothing to a guest's NICs; there are many of them.
var quietTasks = map[string]bool{
	"vncproxy": true, "vncshell": true, "spiceproxy": true, "termproxy": true, "vzdump": true, "aptupdate": true,
}

// Watch tells of guests that a task of somebody else's may have changed:
// started, migrated, restored, rolled back, configured. It asks for the
// cluster's recent tasks every WatchEvery; the API has no events. Without
// Sys.Audit on /nodes the token sees its own tasks alone, and nothing is told.
// What is done without a task (the synchronous call for settings) is not told
// either: that is left to whoever looks at the guests from time to time.
func (a *Adapter) Watch(ctx context.Context, changed func(vds string)) error {
	seen := map[string]string{} // of the last look
	tick := time.NewTicker(a.cfg.watchEvery())
	defer tick.Stop()
	for first := true; ; {
		now, err := a.recent(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("recent tasks cannot be read", zap.Error(err))
		}
		if err == nil {
			fresh := map[string]bool{}
			for key, id := range now {
				if _, old := seen[key]; !old {
					fresh[id] = true
				}
			}
			if first { // what happened before is not known
				changed("")
			} else {
				a.tell(ctx, fresh, changed)
			}
			first, seen = false, now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tell names the guests by VMID and by name: the inventory may have either.
func (a *Adapter) tell(ctx context.Context, ids map[string]bool, changed func(vds string)) {
	if len(ids) == 0 {
		return
	}
	for _, id := range sortedKeys(ids) {
		changed(id)
	}
	all, err := a.guests(ctx)
	if err != nil {
		a.log.Warn("changed guests cannot be named", zap.Error(err))
		return
	}
	for _, g := range all {
		if ids[strconv.Itoa(g.ID)] && g.Name != "" {
			changed(g.Name)
		}
	}
}

// recent lists the tasks of others that concern one guest: begun and ended are
// two keys, with the VMID as value.
func (a *Adapter) recent(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	err := a.timed(ctx, "watch", a.cfg.timeout(), func(ctx context.Context) error {
		var tasks []struct {
			UPID text `json:"upid"`
			End  text `json:"endtime"`
		}
		if err := a.api.call(ctx, http.MethodGet, "/cluster/tasks", nil, &tasks); err != nil {
			return err
		}
		us, _, _ := strings.Cut(a.cfg.Token, "=")
		for _, t := range tasks {
			// UPID:node:pid:pstart:starttime:type:id:user: (PVE::Tools, upid_encode).
			f := strings.Split(string(t.UPID), ":")
			if len(f) < 8 || f[6] == "" || f[7] == us || quietTasks[f[5]] || !isVMID(f[6]) {
				continue
			}
			out[string(t.UPID)] = f[6]
			if t.End != "" {
				out[string(t.UPID)+" ended"] = f[6]
			}
		}
		return nil
	})
	return out, err
}

func isVMID(s string) bool { return strings.Trim(s, "0123456789") == "" }
