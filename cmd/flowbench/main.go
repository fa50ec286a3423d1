// Command flowbench measures what collecting flows costs: flowcordon beside
// other collectors on one machine, and how its cost grows.
package main

import (
	"context"
	"io"

	"github.com/flowcordon/flowcordon/cmd/internal/tool"
	"github.com/flowcordon/flowcordon/store/embedded"
)

const program = "flowbench"

var commands = []tool.Command{
	{Name: "compare", What: "flowcordon beside other collectors: cost at a quiet rate, highest rate without loss", Run: runCompare},
	{Name: "scale", What: "how flowcordon's cost grows with hosts, exporters, templates, durations, cores", Run: runScale},
	{Name: "desk", What: "reads of flowcordon's API, by how many a second, while records come in", Run: runDesk},
	{Name: "history", What: "questions about a host, a complaint and the top over a database as large as asked for", Run: runHistory},
	{Name: "load", What: "send datagrams at a rate, to a collector that runs already", Run: runLoad},
}

func main() {
	embedded.RunIfChild() // history has an engine of its own
	tool.Main(program, commands)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return tool.Run(ctx, program, commands, args, stdout, stderr)
}
