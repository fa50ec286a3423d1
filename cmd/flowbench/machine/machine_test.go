package machine

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestCPU(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	used := time.Duration(0)
	for start := time.Now(); used < 10*time.Millisecond && time.Since(start) < time.Minute; {
		for i := range 1 << 16 {
			_ = i
		}
		after, err := CPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if used = after - before; used < 0 {
			t.Fatalf("used %v", used)
		}
	}
	if most := time.Duration(runtime.NumCPU()) * time.Minute; used < 10*time.Millisecond || used > most {
		t.Errorf("used %v", used)
	}
	if _, err := CPU(1<<22 + 1); err == nil {
		t.Error("CPU time of a process that cannot be")
	}
}

func TestTree(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, pid := range Tree(cmd.Process.Pid, 0) {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		_ = cmd.Wait()
	}()
	var tree []int
	both, one := 0, 0 // a child that becomes another program has no memory for a moment
	for deadline := time.Now().Add(time.Minute); (len(tree) < 2 || int64(both) <= int64(one)) && time.Now().Before(deadline); {
		if tree = Tree(cmd.Process.Pid, 0); len(tree) == 2 {
			both, one = int(RSS(tree...)), int(RSS(tree[0]))
		}
	}
	if len(tree) != 2 || tree[0] != cmd.Process.Pid {
		t.Fatalf("tree %v of %d", tree, cmd.Process.Pid)
	}
	if got := Tree(cmd.Process.Pid, tree[1]); !slices.Equal(got, tree[:1]) {
		t.Errorf("tree without its child: %v", got)
	}
	if both <= one || one < 100<<10 {
		t.Errorf("memory %d of both, %d of one", both, one)
	}
	allowed, err := Allowed()
	if err != nil {
		t.Fatal(err)
	}
	if err := Pin(cmd.Process.Pid, allowed[0]); err != nil {
		t.Error(err)
	}
	if err := Nice(cmd.Process.Pid, 19); err != nil {
		t.Error(err)
	}
}

func TestUDPPort(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadBuffer(4096)
	out, err := net.Dial("udp4", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	port := uint16(c.LocalAddr().(*net.UDPAddr).Port)
	for range 50 {
		if _, err := out.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	u, err := UDPPort(port)
	if err != nil {
		t.Fatal(err)
	}
	if u.Sockets != 1 || u.Queued == 0 || u.Drops < 30 || u.Drops > 49 {
		t.Errorf("%+v", u)
	}
}

func TestUDPLines(t *testing.T) {
	const text = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  112: 0100007F:0807 00000000:0000 07 00000000:00000A00 00:00000000 00000000     0        0 1 2 0000000000000000 7
  113: 0100007F:0807 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0000000000000000 5
  114: 0100007F:0808 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0000000000000000 9
`
	var u UDP
	if err := u.add(text, 2055); err != nil {
		t.Fatal(err)
	}
	if want := (UDP{Sockets: 2, Queued: 0xa00, Drops: 12}); u != want {
		t.Errorf("%+v, want %+v", u, want)
	}
}

func TestSysctlIsRestored(t *testing.T) {
	const name = "net.core.rmem_default"
	was, err := Sysctl(name)
	if err != nil {
		t.Skip(err)
	}
	restore, err := SetSysctls(map[string]int64{name: was})
	if err != nil {
		t.Skipf("not allowed: %v", err)
	}
	if err := restore(); err != nil {
		t.Error(err)
	}
	if _, err := SetSysctls(map[string]int64{"net.core.no_such_thing": 1}); err == nil {
		t.Error("a setting that is not there was set")
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a", make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Disk(dir); err != nil || n < 100_000 || n > 200_000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestDescribe(t *testing.T) {
	if i := Describe(); i.CPU == "" || i.CPUs < 1 || i.Memory < 1<<28 || i.Kernel == "" || i.Go == "" {
		t.Errorf("%+v", i)
	}
}
