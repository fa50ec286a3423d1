package api

import "time"

const (
	// maxBody: the largest body is a statement of a few kilobytes.
	maxBody = 1 << 20
	// maxHeaderBytes: a token and the usual headers take one kilobyte.
	maxHeaderBytes = 16 << 10
	// defaultTimeout: a person has gone away by then; ClickHouse is told to stop.
	defaultTimeout = 30 * time.Second
	// maxPoints of one series: more than any screen is wide.
	maxPoints = 2000
	// wantPoints is what an automatic step aims at.
	wantPoints = 360
	// maxStatement: what a person writes about one incident, in characters.
	maxStatement = 4000
	// maxTopWindow is the longest month; beyond two days a top list reads the sums of
	// hours.
	maxTopWindow = 31 * 24 * time.Hour
	// readyTimeout: orchestrators give up on a probe after a few seconds.
	readyTimeout = 3 * time.Second
	// maxEcho: how much of a wrong value an error shows again, in bytes.
	maxEcho = 120
	// maxStreams of events: each costs a goroutine and a look at the exporters
	// every few seconds. A token of one desk may be on a few screens.
	maxStreams, maxStreamsOf = 64, 8
	streamRetry              = 30 * time.Second
	// streamBeat is below the minute after which proxies give up on silence.
	streamBeat = 15 * time.Second
	// streamWrite: whoever does not read for so long is cut off. It may resume.
	streamWrite = 10 * time.Second
	// streamBatch of events is sent before the log is asked again.
	streamBatch = 100
	// maxResume: whoever missed more loads the lists anew, which is less.
	maxResume = 1000
	// exporterEvery is how often a stream looks at the exporters.
	exporterEvery = 5 * time.Second
	// exporterSilent: exporters send every few seconds, and active timeouts are a minute.
	exporterSilent = 90 * time.Second
	// attemptLife: to type a password and a second factor takes minutes.
	attemptLife = 10 * time.Minute
	// defaultSession is a shift and a bit; defaultIdle is for a page that was closed:
	// one that is looked at asks every few seconds.
	defaultSession, defaultIdle = 12 * time.Hour, time.Hour
	// maxSessions: memory of 1 kB each; of one person: browsers and machines.
	maxSessions, maxSessionsOf = 10_000, 16
	// maxAnswered sign-ins within attemptLife: far more than a desk has people.
	maxAnswered = 10_000
	// answersPerSecond bounds what strangers make us ask the provider.
	answersPerSecond, answersAtOnce = 10, 50
	// providerTimeout of one call to the provider; discoverAgain after a failed one.
	providerTimeout, discoverAgain = 10 * time.Second, 5 * time.Second
	// maxReturn of the address of a page, in bytes; maxName of a person, in characters.
	maxReturn, maxName = 1000, 80
)
