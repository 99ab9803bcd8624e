// Sideband types of the frame data path.
//
// A beat itself is not a type of this package: its width is a parameter, packages have none, and a
// port that is a structure of a parameter's width is flattened differently by every tool. All beat
// ports are therefore three signals with the same names and meaning:
//
//   data  [DataW-1:0]    lane n (bits 8n+7:8n) is byte n of the beat, lane 0 first on the wire
//   keep  [DataW/8-1:0]  lanes that hold a byte: contiguous from lane 0, all of them but at last
//   last                 the frame ends with this beat

`default_nettype none

package tandem_stream_pkg;

  // What the driver asked for in the virtio-net header (virtio 1.3, 5.1.6.2), with a tag that the
  // requester gets back.
  typedef struct packed {
    logic        csum_en;      // VIRTIO_NET_HDR_F_NEEDS_CSUM
    logic [15:0] csum_start;   // bytes from the frame's first byte
    logic [15:0] csum_offset;  // bytes from csum_start to the checksum field
    logic [31:0] tag;
  } csum_req_t;

  // A frame is done with: its last beat went to the MAC, or it was dropped.
  typedef struct packed {
    logic [31:0]        tag;
    logic [15:0]        len;       // bytes taken in, 0xFFFF when there were more
    logic               inserted;  // a checksum was written
    logic               dropped;   // nothing of it was sent
    logic               aborted;   // dropped because the requester said so at its last beat
    tandem_pkg::drop_e  reason;    // when dropped and not aborted: DropTooLong or DropBadRequest
  } tx_done_t;

  // What goes before the beats of a received frame.
  typedef struct packed {
    logic [31:0]          number;  // counts every frame that began at the MAC since rst_ni
    tandem_pkg::verdict_e verdict;
    logic [15:0]          len;     // bytes
  } rx_meta_t;

  // The decision on one received frame.
  typedef struct packed {
    logic [31:0]          number;
    logic [15:0]          len;       // bytes, 0xFFFF when there were more
    logic                 accepted;  // into the FIFO; otherwise dropped
    tandem_pkg::verdict_e verdict;   // when accepted
    tandem_pkg::drop_e    reason;    // when dropped
  } rx_event_t;

endpackage

`default_nettype wire
