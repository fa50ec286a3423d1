package respond

// Reason says why a decision came out as it did. The list is closed: a reason
// is stored with the event and counted by dashboards.
type Reason string

// The reasons.
const (
	ReasonObserved       Reason = "observed"         // the mode of every rule that fired is observe, or the tier is log
	ReasonNotify         Reason = "notify"           // mode or tier ask for a message, not for an act
	ReasonNotifyWait     Reason = "notify_wait"      // as notify, but an act may follow: the notice waits notify_after for it
	ReasonEnforce        Reason = "enforce"          // mode enforce and tier suspend: cut
	ReasonApprove        Reason = "approve"          // mode approve and tier suspend: a human decides
	ReasonApproved       Reason = "approved"         // a human decided
	ReasonExempt         Reason = "exempt"           // an exemption covers every finding that would be acted on
	ReasonProtected      Reason = "protected"        // on the protected list; nothing overrides it
	ReasonHolderUnknown  Reason = "holder_unknown"   // the inventory names no holder; what cannot be named is never cut
	ReasonHolderChanged  Reason = "holder_changed"   // the address changed hands since the first window counted
	ReasonNoAdapter      Reason = "no_adapter"       // the holder has no NIC, or its hypervisor is not configured
	ReasonShared         Reason = "shared_address"   // many customers share the address
	ReasonAlreadyCut     Reason = "vds_already_cut"  // another incident holds the same server's network cut
	ReasonCooldown       Reason = "cooldown"         // released a short time ago
	ReasonCap            Reason = "cap_reached"      // max_per_hour suspensions in the last 60 minutes
	ReasonApprovalLate   Reason = "approval_timeout" // nobody approved in time
	ReasonActFailed      Reason = "act_failed"       // the hypervisor refused, or attempts ran out
	ReasonRestoreFailed  Reason = "restore_failed"   // the network could not be given back
	ReasonNothingNew     Reason = "nothing_new"      // the incident is already where the findings would bring it
	ReasonStale          Reason = "stale"            // the finding counts windows from before the last release or close
	ReasonReadBack       Reason = "read_back"        // the hypervisor reads back as wanted
	ReasonSilent         Reason = "outbound_silent"  // no outgoing packets while the fleet is heard
	ReasonFleetSilent    Reason = "fleet_silent"     // no flow data from anyone: silence proves nothing, still waiting
	ReasonStillSending   Reason = "still_sending"    // read back as cut, packets are still seen
	ReasonReleased       Reason = "released"         // given back on a statement
	ReasonNotOurs        Reason = "not_ours"         // nothing at the hypervisor carries our mark: nothing was changed
	ReasonQuiet          Reason = "quiet"            // no findings for close_after
	ReasonClosedByPerson Reason = "closed_by_person"
)

// Reasons is the closed list, in the order above.
var Reasons = []Reason{
	ReasonObserved, ReasonNotify, ReasonNotifyWait, ReasonEnforce, ReasonApprove, ReasonApproved, ReasonExempt, ReasonProtected,
	ReasonHolderUnknown, ReasonHolderChanged, ReasonNoAdapter, ReasonShared, ReasonAlreadyCut, ReasonCooldown,
	ReasonCap, ReasonApprovalLate, ReasonActFailed, ReasonRestoreFailed, ReasonNothingNew, ReasonStale,
	ReasonReadBack, ReasonSilent, ReasonFleetSilent, ReasonStillSending, ReasonReleased, ReasonNotOurs,
	ReasonQuiet, ReasonClosedByPerson,
}
