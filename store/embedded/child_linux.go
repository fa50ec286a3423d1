package embedded

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// childArg as first argument makes a process the engine child.
const childArg = "__clickhouse-engine"

// Exit codes of the child that are ours; all others are the engine's.
const (
	exitNoEngine = 71 // the library could not be loaded, or no terminal
	exitStuck    = 72 // the engine did not leave its prompt after the parent had gone
)

// Descriptors that the child inherits from the parent.
const (
	fdParent = 3 // read end of a pipe; only the parent holds the write end
	fdLock   = 4 // the lock on the directory, so that it lasts as long as either lives
)

// stuckAfter bounds the engine's own shutdown once the parent is gone.
// Measured: 1.2 to 1.9 s idle, 4.9 s with open connections.
const stuckAfter = 15 * time.Second

// RunIfChild runs the engine and exits if this process was started as the
// engine child, and returns at once otherwise. It must be the first call in
// main and in TestMain.
//
// The boot script's last statement reads fdParent, so it ends when the parent
// stops the engine or dies, even by SIGKILL; the engine then flushes and exits.
func RunIfChild() {
	if len(os.Args) < 3 || os.Args[1] != childArg {
		return
	}
	tty, err := fakeTTY()
	if err == nil {
		go drain(tty)
		go leaveWithParent(tty)
		err = runLocal(os.Args[2], append([]string{"clickhouse-local"}, os.Args[3:]...))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitNoEngine)
	}
	os.Exit(0)
}

// drain throws away what the engine prints on its terminal; a full terminal
// would block it.
func drain(tty int) {
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(tty, b)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
	}
}

// leaveWithParent waits until the parent has closed its end of the pipe and
// then leaves the prompt that follows the boot script. The prompt may not be up
// yet, hence the repetition.
func leaveWithParent(tty int) {
	for {
		p := []unix.PollFd{{Fd: fdParent}}
		n, err := unix.Poll(p, -1)
		if n > 0 && p[0].Revents != 0 {
			break
		}
		if err != nil && err != unix.EINTR {
			break
		}
	}
	for deadline := time.Now().Add(stuckAfter); time.Now().Before(deadline); {
		_, _ = unix.Write(tty, []byte("exit\n")) // an error means that the terminal is gone: os.Exit below
		time.Sleep(20 * time.Millisecond)
	}
	os.Exit(exitStuck)
}

// fakeTTY makes descriptor 0 a pseudo terminal and returns its master. Without
// a terminal clickhouse-local counts as a script and installs an error handler
// that terminates the process on any exception a connection thread lets out: a
// wrong password, an unknown database, a port scan would end the engine.
func fakeTTY() (int, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a pseudo terminal for the engine (/dev/ptmx must be reachable; systemd: no PrivateDevices=): %w", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlock the pseudo terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, fmt.Errorf("number of the pseudo terminal: %w", err)
	}
	slave, err := unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, fmt.Errorf("open the pseudo terminal: %w", err)
	}
	if err := unix.Dup3(slave, 0, 0); err != nil {
		return -1, fmt.Errorf("put the pseudo terminal on standard input: %w", err)
	}
	return master, unix.Close(slave)
}

// runLocal loads the library and runs clickhouse-local until that ends. The
// library reports failures on standard error only: success here means nothing.
func runLocal(lib string, args []string) error {
	h, err := purego.Dlopen(lib, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return fmt.Errorf("load the engine: %w", err)
	}
	sym, err := purego.Dlsym(h, "chdb_query_cmdline")
	if err != nil {
		return errors.Join(fmt.Errorf("%s is too old or not libchdb", lib), err)
	}
	var cmdline func(argc int32, argv unsafe.Pointer) uintptr
	purego.RegisterFunc(&cmdline, sym)
	var pin runtime.Pinner
	defer pin.Unpin()
	argv := make([]*byte, len(args)+1) // C wants a null at the end
	for i, a := range args {
		b := append([]byte(a), 0)
		argv[i] = &b[0]
		pin.Pin(argv[i])
	}
	pin.Pin(&argv[0])
	cmdline(int32(len(args)), unsafe.Pointer(&argv[0]))
	return nil
}
