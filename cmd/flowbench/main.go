// Command flowbench measures what collecting flows costs: flowcordon beside
// other collectors on one machine, and how its cost grows.
package main

import (
	"context"
	"io"

	"github.com/flowcordon/flowcordon/cmd/internal/tool"
)

const program = "flowbench"

var commands = []tool.Command{
	{Name: "compare", What: "flowcordon beside other collectors: cost at a quiet rate, highest rate without loss", Run: runCompare},
	{Name: "scale", What: "how flowcordon's cost grows with hosts, exporters, templates, durations, cores", Run: runScale},
	{Name: "load", What: "send datagrams at a rate, to a collector that runs already", Run: runLoad},
}

func main() { tool.Main(program, commands) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return tool.Run(ctx, program, commands, args, stdout, stderr)
}
