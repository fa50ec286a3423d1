package decode

import "time"

// Limits on what the wire may ask for. Each has the reason for its size.
const (
	// maxTemplateFields is the longest template taken. The longest in our
	// captures (YAF, nProbe) have under 80 fields; 512 leaves room.
	maxTemplateFields = 512

	// maxWarned is how many missing templates of an exporter are remembered as
	// logged: more than routers have, and after that many a line may come twice.
	maxWarned = 256

	// runRecords is how many records are handed over at once at most: a full
	// datagram of NetFlow has under 64, and 10 kB of them stay in the cache.
	runRecords = 64

	// maxExporters is how many source addresses have state. The port is open
	// to spoofed sources where no allow-list stands; the least recently seen
	// gives way.
	maxExporters = 4096

	// maxDomains is how many observation domains one exporter may have. Large
	// chassis have one for each line card and NPU: tens, not hundreds.
	maxDomains = 256

	// maxExporterState bounds what the templates, domains and samplers of one
	// exporter cost, in bytes by our estimate: 4,000 templates of 20 fields.
	maxExporterState = 4 << 20

	// maxState bounds the same for a whole Decoder: room for 4096 exporters of
	// the common kind (tens of templates), not for 4096 hostile ones.
	maxState = 128 << 20

	// maxSamplers is how many sampling rates one domain may state. Boxes that
	// state one for each interface have at most some hundreds.
	maxSamplers = 1024

	// maxTotals is how many flows with running totals are remembered in each
	// of two halves, and totalsAge how long a half fills: active timeouts are
	// 30 minutes at most, so that a flow that goes on is heard of in time. 64
	// bytes each: 8 MB.
	maxTotals = 1 << 16
	totalsAge = time.Hour

	// maxSamplingRate is the thinnest sampling believed. sFlow goes to 1:65536
	// on hardware in use; a rate over a million is a misread field, and would
	// turn one packet into a flood.
	maxSamplingRate = 1_000_000

	// rateStale is how long after it was last stated a rate counts as stale:
	// exporters repeat their options every 10 to 30 minutes, some every hour.
	rateStale = 2 * time.Hour

	// defaultHoldBack holds about 1,400 full datagrams while the first
	// templates are awaited after a cold start.
	defaultHoldBack = 2 << 20

	// maxHoldAge: Cisco's default template timeout is 30 minutes; data that
	// waited longer belongs to windows long gone.
	maxHoldAge = 30 * time.Minute

	// maxFuture is how far a record's times may lie ahead of its receipt. More
	// is a wrong clock, and the time of receipt is the better truth.
	maxFuture = 5 * time.Minute

	// maxMPLSLabels and maxVLANTags bound the walk through a sampled header.
	maxMPLSLabels = 16
	maxVLANTags   = 4

	// maxNesting bounds the tunnels and pseudowires within each other. Overlay
	// networks have one, a tunnel through one two.
	maxNesting = 4

	// maxIPv6Ext bounds the chain of extension headers; RFC 8200 §4.1 lists 7.
	maxIPv6Ext = 10

	// maxStateFile bounds what LoadState reads.
	maxStateFile = 256 << 20

	// maxSources is how many sFlow data sources (interfaces, mostly) of a stream
	// have their sampling checked; a full chassis has under 1,000 ports.
	maxSources = 1024

	// maxFlowRecords bounds the flow records of one sFlow sample; real ones
	// have under ten, and 8 bytes each must remain in any case.
	maxFlowRecords = 1024

	// delayBucket is the length of the two halves of the window in which the
	// greatest export delay is kept.
	delayBucket = 5 * time.Minute
)

// Bytes that a piece of state is reckoned to cost.
const (
	templateCost = 500
	fieldCost    = 24
	domainCost   = 1024
	samplerCost  = 128
	sourceCost   = 48
)
