package parse

const (
	// maxInput: mail servers refuse more than 10 to 25 MB; complaints with logs
	// are below one.
	maxInput = 16 << 20
	// maxUnpacked bounds all parts and archives of one complaint together: a
	// log packs 20 to 1, a bomb 1000 to 1.
	maxUnpacked = 32 << 20
	// maxLines of all parts together; what a person can do something about.
	maxLines = 50_000
	// maxLine: Suricata's eve.json has lines of some kilobytes.
	maxLine = 64 << 10
	// maxParts and maxDepth: a digest of forwarded mails has tens, three deep.
	maxParts = 200
	maxDepth = 8
	// maxFiles of one archive.
	maxFiles = 50
	// maxObservations bounds the answer.
	maxObservations = 20_000
	// maxUnread: how many lines that are no observation are listed; the rest is
	// counted.
	maxUnread = 1000
	// maxRaw: how much of a line is shown again, in bytes.
	maxRaw = 400
	// maxName: how much of a mail's header field is kept, in bytes.
	maxName = 300
	// maxAddrs looked at in one line.
	maxAddrs = 16
	// ctxEvery: how many lines between two looks at the context.
	ctxEvery = 256
)
