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
	ReasonHolderUnsure   Reason = "holder_unsure"    // the inventory's sources contradict each other, or only the tenant itself says so
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

	ReasonNoMeasure    Reason = "no_measure"           // no step of the ladder fits the finding and the adapter: told, not done
	ReasonGoesOn       Reason = "abuse_goes_on"        // it goes on with the measure in force: the next step
	ReasonMorePorts    Reason = "more_ports"           // the same abuse on another port, which is blocked as well
	ReasonProbation    Reason = "probation"            // released a short time ago: the lower bar
	ReasonRefuse       Reason = "refuse_service"       // the n-th offence: cut, and a human decides on further service
	ReasonCapShort     Reason = "cap_10min"            // bound of 10 minutes
	ReasonCapDay       Reason = "cap_day"              // bound of 24 hours
	ReasonCapTenant    Reason = "cap_tenant"           // bound of 24 hours for one customer
	ReasonCapNode      Reason = "cap_node"             // bound of 60 minutes for one hypervisor
	ReasonCapFleet     Reason = "cap_fleet"            // share of all servers that have a measure in force
	ReasonFreeze       Reason = "freeze"               // many tenants tripped one rule at once, or an undo: more likely the data than they
	ReasonUnfrozen     Reason = "unfrozen"             // lifted by a person, or after a quiet time
	ReasonInventoryOld Reason = "inventory_stale"      // the inventory is older than inventory_max_age
	ReasonDryRun       Reason = "dry_run"              // everything but the call
	ReasonExpired      Reason = "expired"              // the time of a temporary measure is over
	ReasonUndone       Reason = "undone"               // automatic acts taken back by a person; no offence
	ReasonMistake      Reason = "mistake"              // released because the act was wrong; no offence
	ReasonByHand       Reason = "by_hand"              // a measure that a person chose
	ReasonDrift        Reason = "not_in_force"         // what must be in force is not: taken up again
	ReasonResolved     Reason = "resolved_again"       // the server has another NIC or another hypervisor now
	ReasonGone         Reason = "vds_gone"             // neither hypervisor nor inventory know the server any more
	ReasonNICAway      Reason = "nic_away"             // the hypervisor does not know the NIC, the inventory still does
	ReasonReplaced     Reason = "replaced"             // another measure of the incident is in force instead
	ReasonFallback     Reason = "fallback"             // the hypervisor cannot act: the fallback adapter does
	ReasonOrphan       Reason = "orphan"               // our mark on a NIC, and no incident that holds it
	ReasonOverdue      Reason = "overdue"              // tried for longer than max_act_time, and tried on
	ReasonStatement    Reason = "statement"            // the customer has said what happened
	ReasonNoAnswer     Reason = "no_answer"            // the customer has not
	ReasonParoleOver   Reason = "probation_ended"      // the usual bar counts again
	ReasonUnmetered    Reason = "unmetered"            // in force by read-back; no means to measure its effect
	ReasonUnderLimit   Reason = "outbound_below_limit" // what it sends is below the limit
)

// Reasons is the closed list, in the order above.
var Reasons = []Reason{
	ReasonObserved, ReasonNotify, ReasonNotifyWait, ReasonEnforce, ReasonApprove, ReasonApproved, ReasonExempt, ReasonProtected,
	ReasonHolderUnknown, ReasonHolderUnsure, ReasonHolderChanged, ReasonNoAdapter, ReasonShared, ReasonAlreadyCut, ReasonCooldown,
	ReasonCap, ReasonApprovalLate, ReasonActFailed, ReasonRestoreFailed, ReasonNothingNew, ReasonStale,
	ReasonReadBack, ReasonSilent, ReasonFleetSilent, ReasonStillSending, ReasonReleased, ReasonNotOurs,
	ReasonQuiet, ReasonClosedByPerson, ReasonNoMeasure, ReasonGoesOn, ReasonMorePorts, ReasonProbation, ReasonRefuse,
	ReasonCapShort, ReasonCapDay, ReasonCapTenant, ReasonCapNode, ReasonCapFleet, ReasonFreeze, ReasonUnfrozen,
	ReasonInventoryOld, ReasonDryRun, ReasonExpired, ReasonUndone, ReasonMistake, ReasonByHand, ReasonDrift,
	ReasonResolved, ReasonGone, ReasonNICAway, ReasonReplaced, ReasonFallback, ReasonOrphan, ReasonOverdue, ReasonStatement, ReasonNoAnswer, ReasonParoleOver, ReasonUnmetered, ReasonUnderLimit,
}
