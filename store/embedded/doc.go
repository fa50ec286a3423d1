// Package embedded runs a real ClickHouse server as a supervised child of the
// same executable. The server is libchdb's clickhouse-local, told to listen on
// loopback with the native protocol; the store talks to it as to any server.
//
// In go a directory and the path of libchdb.so, out come an address to dial
// (Engine.DialContext), a user and a password. Run owns the child, its
// supervision and every goroutine. The executable's main, and the TestMain of
// every test that uses an Engine, must call RunIfChild before anything else.
//
// What the engine needs and what goes wrong without it is told in the comments
// of child_linux.go (terminal, parent's death) and files.go (the user without a
// password). The package imports nothing else of the project. Linux on x86-64
// with glibc only: no other build of the library is published.
package embedded
