// Package panel acts on the network of a VDS through its hosting panel, where
// nothing closer to the hypervisor can be reached: Virtualizor and VMmanager 6.
//
// UNVERIFIED AGAINST THE PRODUCTS: it was written from their public
// documentation and from client libraries, and tested against panels of our
// own making. Every change is read back, so a panel that does something else
// than its documentation says is an error, not a cut that is none.
//
// What each can do:
//   - Virtualizor: the network of the whole server off and on (suspend_net,
//     unsuspend_net). Read back as nw_suspended. No milder measure.
//   - VMmanager 6: ports blocked for TCP and UDP (firewall_rules of the node,
//     nftables) and what is sent limited (net_out_mbitps), for the whole
//     server. It has no call for a NIC's link, and rules for TCP and UDP are no
//     cut: Cut answers flow.ErrUnsupported. Use libvirt on its nodes for that.
//   - SolusVM 1: nothing. vserver-network-disable, which looks like it, is
//     documented as "Disable PXE" (docs.solusvm.com, Admin API): it would leave
//     the traffic on. vserver-suspend stops the server. Use libvirt on its KVM
//     nodes, or the webhook.
//
// Neither panel has a place for a text of ours, so the mark with the state to
// go back to is a file for each server in Config.State: it survives a restart
// and the loss of the database, not that of the directory. Without the mark a
// network that is off counts as somebody else's work and is left alone.
//
// The Adapters keep idle HTTP connections and start no goroutine. The package
// imports flow and no sibling.
package panel
