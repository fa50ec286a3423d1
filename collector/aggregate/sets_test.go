package aggregate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// TestSetIsASample: whatever is added in whatever order, a set holds exactly the
// hashes with level zero bits, and the level is the least at which they fit.
func TestSetIsASample(t *testing.T) {
	var pool setPool
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 100, maxSet - 1, maxSet, maxSet + 1, 10_000, 100_000, 1_000_000} {
		var set setRef
		hashes := make([]uint64, n)
		for i := range hashes {
			hashes[i] = flow.Mix64(r.Uint64())
			pool.add(&set, hashes[i])
			if i%3 == 0 {
				pool.add(&set, hashes[r.IntN(i+1)])
			}
		}
		got, level := pool.appendTo(nil, set)
		want := sampleOf(hashes, level)
		if !slices.Equal(got, want) {
			t.Fatalf("%d hashes: %d members at level %d, want %d", n, len(got), level, len(want))
		}
		if len(got) > maxSet || level > 0 && len(sampleOf(hashes, level-1)) <= maxSet {
			t.Errorf("%d hashes: %d members at level %d", n, len(got), level)
		}
		// Flajolet 1990: the standard error is 1.2/√maxSet, 1.9 %.
		if estimate := float64(len(got)) * math.Exp2(float64(level)); math.Abs(estimate/float64(n)-1) > 0.06 {
			t.Errorf("%d hashes are estimated at %.0f", n, estimate)
		}
		pool.release(&set)
		if set != 0 {
			t.Error("a set that was released has members")
		}
	}
}

func sampleOf(hashes []uint64, level uint8) []uint64 {
	var s []uint64
	for _, h := range hashes {
		if h&(1<<level-1) == 0 {
			s = append(s, h)
		}
	}
	slices.Sort(s)
	return slices.Compact(s)
}

// TestSetsShareAPool: sets that grow and go at random never see each other's
// members, nor do hashes that all belong into one slot get lost.
func TestSetsShareAPool(t *testing.T) {
	var pool setPool
	r := rand.New(rand.NewPCG(3, 4))
	sets := make([]setRef, 50)
	want := make([]map[uint64]bool, len(sets))
	for range 100_000 {
		i := r.IntN(len(sets))
		if want[i] == nil || r.IntN(500) == 0 {
			pool.release(&sets[i])
			want[i] = map[uint64]bool{}
		}
		h := r.Uint64N(3000) + 1
		if i%2 == 0 {
			h = flow.Mix64(h)
		}
		pool.add(&sets[i], h)
		want[i][h] = true
	}
	for i := range sets {
		got, level := pool.appendTo(nil, sets[i])
		if len(got) != len(want[i]) || level != 0 || !slices.IsSorted(got) {
			t.Fatalf("set %d: %d members at level %d, want %d", i, len(got), level, len(want[i]))
		}
		for _, h := range got {
			if !want[i][h] {
				t.Fatalf("set %d: %#x is not a member", i, h)
			}
		}
	}
}

func TestPortLists(t *testing.T) {
	var pool portPool
	r := rand.New(rand.NewPCG(5, 6))
	lists := make([]portsRef, 50)
	want := make([]map[uint16]bool, len(lists))
	for range 200_000 {
		i := r.IntN(len(lists))
		if want[i] == nil || len(want[i]) == maxSet-1 || r.IntN(1+i*20) == 0 {
			pool.release(&lists[i])
			want[i] = map[uint16]bool{}
		}
		p := uint16(r.IntN(5000))
		pool.add(&lists[i], p)
		want[i][p] = true
		if pool.count(lists[i]) != len(want[i]) {
			t.Fatalf("list %d: %d ports, want %d", i, pool.count(lists[i]), len(want[i]))
		}
	}
	for i := range lists {
		got := pool.appendTo(nil, lists[i])
		if !slices.IsSorted(got) || len(got) != len(want[i]) {
			t.Fatalf("list %d: %d ports, want %d", i, len(got), len(want[i]))
		}
		for _, p := range got {
			if !want[i][p] {
				t.Fatalf("list %d: %d is not in it", i, p)
			}
		}
	}
}
