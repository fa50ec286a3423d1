// Command flowgen is the other side of flowcordon's wires, for demonstrations
// and tests: simulated border routers with labelled traffic and known totals,
// and a simulated hypervisor panel.
package main

import (
	"context"
	"io"

	"github.com/flowcordon/flowcordon/cmd/internal/tool"
)

const program = "flowgen"

var commands = []tool.Command{
	{Name: "bulk", What: "send random records with known totals", Run: runBulk},
	{Name: "demo", What: "run the whole system: routers, panel, mail, flowcordon", Run: runDemo},
	{Name: "panel", What: "serve a simulated hypervisor panel", Run: runPanel},
	{Name: "scenario", What: "let a tenant of a scenario file live, and export what he does", Run: runScenario},
	{Name: "send", What: "send the datagrams of a file that bulk --out wrote", Run: runSend},
}

func main() { tool.Main(program, commands) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return tool.Run(ctx, program, commands, args, stdout, stderr)
}
