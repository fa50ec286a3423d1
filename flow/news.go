package flow

// News is an event of the log with its incident as it is now, not as it was then.
type News struct {
	AuditEntry
	Now Incident
}
