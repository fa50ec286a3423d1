package store

import "testing"

// A Write is encoded before it is added. What was compressed because the database
// was behind, and is added when it has caught up, alone or after Writes that were
// not, is read as it was.
func TestCompressedWhenCaughtUp(t *testing.T) {
	for name, before := range map[string]int{"first of a batch": 0, "after others": 2} {
		t.Run(name, func(t *testing.T) {
			s := testSpool(t, t.TempDir())
			if err := s.open(); err != nil {
				t.Fatal(err)
			}
			want := hosts(before, 1)
			if before > 0 {
				writeTo(t, s, hosts(before, 1))
			}
			buf, err := new(encoder).encode(hosts(1000, 2), &s.buffers, true)
			if err != nil {
				t.Fatal(err)
			}
			if h := summarize(buf); !h.lz4 {
				t.Fatal("nothing was compressed, the test says nothing")
			}
			if err := s.add(buf); err != nil {
				t.Fatal(err)
			}
			writeTo(t, s, hosts(1, 3))
			want.Hosts = append(append(want.Hosts, hosts(1000, 2).Hosts...), hosts(1, 3).Hosts...)
			got := takeAll(t, s)
			if len(got.Hosts) != len(want.Hosts) {
				t.Fatalf("%d rows, want %d", len(got.Hosts), len(want.Hosts))
			}
			for i := range want.Hosts {
				if want.Hosts[i].OutBytes != got.Hosts[i].OutBytes {
					t.Fatalf("row %d has %d, want %d", i, got.Hosts[i].OutBytes, want.Hosts[i].OutBytes)
				}
			}
		})
	}
}
