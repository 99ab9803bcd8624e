// Types that the host side's blocks share. Widths are those of the standard, not of a
// configuration.

`default_nettype none

package tandem_nic_pkg;

  // No block uses every constant.
  /* verilator lint_off UNUSEDPARAM */

  // Descriptor flags (virtio 1.3, 2.8.6 and 2.8.1).
  localparam int unsigned DescNext = 0;
  localparam int unsigned DescWrite = 1;
  localparam int unsigned DescIndirect = 2;
  localparam int unsigned DescAvail = 7;
  localparam int unsigned DescUsed = 15;

  // Descriptor of a packed ring as it lies in memory, first field in the highest bits (2.8.13).
  typedef struct packed {
    logic [15:0] flags;
    logic [15:0] id;
    logic [31:0] len;
    logic [63:0] addr;
  } desc_t;

  // Event suppression (2.8.14): flags in the upper half, offset and wrap in the lower.
  localparam logic [15:0] EventEnable = 16'd0;
  localparam logic [15:0] EventDisable = 16'd1;
  localparam logic [15:0] EventDesc = 16'd2;

  /* verilator lint_on UNUSEDPARAM */

  // What is constant about a queue while it is enabled.
  typedef struct packed {
    logic [63:0] desc;     // 16-byte aligned
    logic [63:0] driver;   // 4-byte aligned
    logic [63:0] device;   // 4-byte aligned
    logic [15:0] size;     // descriptors
    logic [15:0] vector;
  } queue_cfg_t;

  // A place in a ring.
  typedef struct packed {
    logic        wrap;
    logic [15:0] slot;
  } ring_pos_t;

  // The buffer of one descriptor.
  typedef struct packed {
    logic [63:0] addr;
    logic [31:0] len;
  } seg_t;

  // A chain that was found complete and legal.
  typedef struct packed {
    ring_pos_t   pos;      // its first descriptor
    logic [15:0] id;       // of its last descriptor (2.8.6)
    logic [15:0] count;    // descriptors
    logic [31:0] len;      // bytes of all of them
  } chain_t;

  // A used element to write. A set of several (VIRTIO_NET_F_MRG_RXBUF) has `first` set on its first
  // and `last` on its last element.
  typedef struct packed {
    ring_pos_t   pos;
    logic [15:0] id;
    logic [15:0] count;
    logic [31:0] len;
    logic        first;
    logic        last;
  } used_t;

  // A small write of 4 or 8 bytes that does not cross 8 bytes.
  typedef struct packed {
    logic [63:0] addr;
    logic        wide;     // 8 bytes, else 4
    logic [63:0] data;     // of 4 bytes: in both halves
  } small_write_t;

  // A small read.
  typedef struct packed {
    logic [63:0] addr;
    logic [11:0] len;      // bytes; does not cross 4 KiB
  } small_read_t;

  // pos + count in a ring of `size`; count <= size.
  function automatic ring_pos_t advance(ring_pos_t pos, logic [15:0] count, logic [15:0] size);
    logic [16:0] sum;
    sum = {1'b0, pos.slot} + {1'b0, count};
    if (sum >= {1'b0, size}) return '{wrap: !pos.wrap, slot: 16'(sum - {1'b0, size})};
    return '{wrap: pos.wrap, slot: sum[15:0]};
  endfunction

endpackage

`default_nettype wire
