package lab

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// InNS runs f on a thread inside the named network namespace; sockets that f
// opens stay there.
func InNS(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("network namespace %s: %w", name, err)
			return
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// DialIn returns a dialer whose connections begin in the named namespace.
func DialIn(name string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		nerr := InNS(name, func() error {
			var d net.Dialer
			// Only one address family per dial: Happy Eyeballs would race
			// on a thread outside the namespace.
			d.FallbackDelay = -1
			c, err = d.DialContext(ctx, network, address)
			return err
		})
		return c, nerr
	}
}

// Command is a command inside the named namespace.
func Command(ns, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", ns, name}, args...)...)
}

// ip runs iproute2's ip once for each line.
func ip(lines ...string) error {
	for _, l := range lines {
		if out, err := exec.Command("ip", strings.Fields(l)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", l, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
