package config

import (
	"strings"
	"testing"
	"time"
)

func TestRetention(t *testing.T) {
	c, err := Parse("f.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ClickHouse.Retention; got != (Retention{Minutes: 183 * 24 * time.Hour, Hours: 731 * 24 * time.Hour}) {
		t.Errorf("defaults: %+v", got)
	}
	const server = "clickhouse:\n  addr: [127.0.0.1:9000]\n"
	for _, tt := range []struct{ name, text, want string }{
		{"all of it", server + "  retention: {minutes: 400h, hours: 400h}\n  storage: {policy: hot_cold, cold_volume: cold, cold_after: {flows: 24h, hours: 300h}}\n", ""},
		{"windows as long as minutes", "store: {window_ttl: 720h}\nclickhouse: {retention: {minutes: 720h}}\n", ""},
		{"minutes shorter than windows", "clickhouse: {retention: {minutes: 335h}}\n", "clickhouse.retention.minutes: 335h0m0s is shorter than store.window_ttl (336h0m0s)"},
		{"hours shorter than minutes", "clickhouse: {retention: {minutes: 720h, hours: 719h}}\n", "clickhouse.retention.hours: 719h0m0s is shorter than clickhouse.retention.minutes"},
		{"nothing kept", "clickhouse: {retention: {hours: 0s}}\n", "clickhouse.retention.hours: 0s must be longer than zero"},
		{"windows too short", "store: {window_ttl: 5h59m}\n", "store.window_ttl: 5h59m0s is too short"},
		{"windows just long enough", "store: {window_ttl: 6h}\n", ""},
		{"policy on the embedded engine", "clickhouse: {storage: {policy: hot_cold}}\n", "clickhouse.storage: needs a ClickHouse server"},
		{"no name", server + "  storage: {policy: \"a'b\"}\n", "clickhouse.storage.policy: \"a'b\" is no name"},
		{"cold without a volume", server + "  storage: {cold_after: {flows: 24h}}\n", "clickhouse.storage.cold_after.flows: needs clickhouse.storage.cold_volume"},
		{"cold when expired", server + "  storage: {cold_volume: cold, cold_after: {flows: 168h}}\n", "clickhouse.storage.cold_after.flows: 168h0m0s is no sooner than"},
		{"cold too soon", server + "  storage: {cold_volume: cold, cold_after: {minutes: 59s}}\n", "clickhouse.storage.cold_after.minutes: 59s is under a minute"},
		{"unknown level", server + "  storage: {cold_volume: cold, cold_after: {days: 1h}}\n", "clickhouse.storage.cold_after.days: unknown key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(good+tt.text))
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
