// Package machine is what the measurements need of Linux: CPU time and memory
// of other processes, drops of their UDP sockets, on which CPU they run, kernel
// limits for the time of a run, and a description of the machine. It imports
// nothing of the project.
package machine
