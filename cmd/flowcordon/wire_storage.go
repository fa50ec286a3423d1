package main

import (
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/store"
)

// storage is the store's view of clickhouse.storage.
func storage(c config.Storage) store.Storage {
	out := store.Storage{Policy: c.Policy, ColdVolume: c.ColdVolume, ColdAfter: map[store.Level]time.Duration{}}
	for level, after := range map[store.Level]time.Duration{
		store.LevelFlows: c.ColdAfter.Flows, store.LevelWindows: c.ColdAfter.Windows,
		store.LevelMinutes: c.ColdAfter.Minutes, store.LevelHours: c.ColdAfter.Hours,
	} {
		if after > 0 {
			out.ColdAfter[level] = after
		}
	}
	return out
}
