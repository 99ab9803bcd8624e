// Transmit: chains become reads, reads become frames, frames become used elements.
//
//   chain -> order fifo -------------------------------------------\
//        \-> seg -> (axi_read) -> tx_pack -> header -> (tx_checksum) -> done -> trace -> used
//
// Up to FramesMax frames are between reading and completion. A frame is complete when its last
// beat went to the MAC, or when it was dropped; both in the order of the ring. A header field
// that was not negotiated, or no frame behind the header, drops the frame (DropBadRequest). A bus
// error breaks the queue; frames behind it are read and thrown away, and have no events.

`default_nettype none

module tx_engine
  import tandem_pkg::*;
  import tandem_stream_pkg::*;
  import tandem_nic_pkg::*;
#(
  parameter int unsigned DataW     = 512,
  parameter int unsigned FramesMax = 32,
  parameter logic [7:0]  QueueIdx  = 8'd1,
  localparam int unsigned Bytes    = DataW / 8,
  localparam int unsigned LaneW    = $clog2(Bytes)
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic             csum_ok_i,      // VIRTIO_NET_F_CSUM was negotiated
  input  wire logic [7:0]       hdr_len_i,      // bytes, at least 12

  input  wire logic             chain_valid_i,
  output logic                  chain_ready_o,
  input  wire chain_t           chain_i,
  input  wire logic             seg_valid_i,
  output logic                  seg_ready_o,
  input  wire seg_t             seg_i,

  output logic                  rd_valid_o,
  input  wire logic             rd_ready_i,
  output seg_t                  rd_o,
  output logic                  rd_last_o,

  input  wire logic             in_valid_i,
  output logic                  in_ready_o,
  input  wire logic [DataW-1:0] in_data_i,
  input  wire logic [LaneW-1:0] in_lane_i,
  input  wire logic [LaneW:0]   in_count_i,
  input  wire logic             in_last_i,
  input  wire logic             in_err_i,

  output logic                  out_valid_o,
  input  wire logic             out_ready_i,
  output logic [DataW-1:0]      out_data_o,
  output logic [Bytes-1:0]      out_keep_o,
  output logic                  out_last_o,
  output logic                  out_abort_o,
  output csum_req_t             out_req_o,
  input  wire logic             done_valid_i,
  input  wire tx_done_t         done_i,

  output logic                  used_valid_o,
  input  wire logic             used_ready_i,
  output used_t                 used_o,

  output logic                  trace_valid_o,
  input  wire logic             trace_ready_i,
  output trace_event_t          trace_o,
  output logic                  broken_o,
  output logic                  moving_o
);

  // Issue: one chain at a time, its segments one a cycle.
  logic        issuing_q;
  logic [15:0] left_q;
  logic        order_ready;
  assign chain_ready_o = !issuing_q && order_ready;
  assign rd_valid_o    = issuing_q && seg_valid_i;
  assign rd_o          = seg_i;
  assign rd_last_o     = left_q == 16'd1;
  assign seg_ready_o   = issuing_q && rd_ready_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      issuing_q <= 1'b0;
      left_q    <= '0;
    end else if (!issuing_q) begin
      issuing_q <= chain_valid_i && order_ready;
      left_q    <= chain_i.count;
    end else if (rd_valid_o && rd_ready_i) begin
      left_q    <= left_q - 1'b1;
      issuing_q <= !rd_last_o;
    end
  end

  chain_t order;
  logic   order_valid;
  logic   finish;
  sync_fifo #(
    .Width($bits(chain_t)),
    .Depth(FramesMax)
  ) u_order (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(chain_valid_i && chain_ready_o),
    .in_ready_o(order_ready),
    .in_data_i(chain_i),
    .out_valid_o(order_valid),
    .out_ready_i(finish),
    .out_data_o(order),
    .count_o()
  );

  // Header.
  logic [LaneW-1:0] start_lane;
  logic [7:0]       hdr_beats;
  assign start_lane = -LaneW'(hdr_len_i);
  assign hdr_beats  = 8'((9'(hdr_len_i) + 9'(Bytes - 1)) >> LaneW);

  logic             pk_valid;
  logic             pk_ready;
  logic [DataW-1:0] pk_data;
  logic [Bytes-1:0] pk_keep;
  logic             pk_last;
  logic             pk_err;
  tx_pack #(
    .DataW(DataW)
  ) u_pack (
    .clk_i,
    .rst_ni,
    .start_lane_i(start_lane),
    .in_valid_i,
    .in_ready_o,
    .in_data_i,
    .in_lane_i,
    .in_count_i,
    .in_last_i,
    .in_err_i,
    .out_valid_o(pk_valid),
    .out_ready_i(pk_ready),
    .out_data_o(pk_data),
    .out_keep_o(pk_keep),
    .out_last_o(pk_last),
    .out_err_o(pk_err)
  );

  logic [7:0]  hdr_seen_q;       // beats of the header seen
  logic        in_hdr;
  logic        hdr_end;
  logic [95:0] hdr_q;            // the header's last 12 bytes so far
  logic [95:0] hdr_now;
  logic        poison_q;
  assign in_hdr  = hdr_seen_q != hdr_beats;
  assign hdr_end = hdr_seen_q + 8'd1 == hdr_beats;
  if (DataW >= 128) begin : gen_hdr_wide
    assign hdr_now = pk_data[DataW-1-:96];
    logic unused_hdr;
    assign unused_hdr = ^hdr_q;
  end else begin : gen_hdr_narrow
    assign hdr_now = {pk_data, hdr_q[95-:96-DataW]};
    logic unused_hdr;
    assign unused_hdr = ^hdr_q[95-(96-DataW):0];
  end

  // Fields of virtio_net_hdr (virtio 1.3, 5.1.6).
  logic [95:0] hdr;
  logic        needs_csum;
  logic        bad;
  logic        empty;
  assign hdr        = hdr_q;
  assign needs_csum = hdr[0];
  assign bad        = (needs_csum && !csum_ok_i) || hdr[15:8] != 8'd0;
  assign empty      = in_hdr && hdr_end && pk_last;
  logic unused_fields;
  assign unused_fields = ^{hdr[7:1], hdr[47:16], hdr[95:80]};

  assign out_valid_o = pk_valid && (!in_hdr || empty);
  assign pk_ready    = (in_hdr && !empty) || out_ready_i;
  assign out_data_o  = pk_data;
  assign out_keep_o  = empty ? '0 : pk_keep;
  assign out_last_o  = pk_last;
  assign out_abort_o = pk_last && (empty || bad || pk_err || poison_q);
  assign out_req_o   = '{csum_en: needs_csum && !empty, csum_start: hdr[63:48],
                         csum_offset: hdr[79:64], tag: '0};

  logic ended;
  assign ended = out_valid_o && out_ready_i && pk_last;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      hdr_seen_q <= '0;
      poison_q   <= 1'b0;
    end else begin
      if (pk_valid && pk_ready) begin
        if (pk_last) hdr_seen_q <= '0;
        else if (in_hdr) hdr_seen_q <= hdr_seen_q + 1'b1;
      end
      if (ended && pk_err) poison_q <= 1'b1;
    end
  end
  always_ff @(posedge clk_i) begin
    if (pk_valid && pk_ready && in_hdr) hdr_q <= hdr_now;
  end

  // What became of each frame: the bus error here, the rest in done.
  logic bus_err;
  logic result_valid;
  logic result_room;
  sync_fifo #(
    .Width(1),
    .Depth(FramesMax)
  ) u_result (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(ended),
    .in_ready_o(result_room),
    .in_data_i(pk_err || poison_q),
    .out_valid_o(result_valid),
    .out_ready_i(finish),
    .out_data_o(bus_err),
    .count_o()
  );
  tx_done_t done;
  logic     done_valid;
  logic     done_room;
  sync_fifo #(
    .Width($bits(tx_done_t)),
    .Depth(FramesMax)
  ) u_done (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(done_valid_i),
    .in_ready_o(done_room),
    .in_data_i(done_i),
    .out_valid_o(done_valid),
    .out_ready_i(finish),
    .out_data_o(done),
    .count_o()
  );
  logic unused_tag;
  assign unused_tag = ^done.tag;

  // Completion: the event, then the used element.
  typedef enum logic [1:0] {
    StEvent,
    StUsed,
    StDead
  } state_e;
  state_e state_q;
  state_e state_d;
  logic   complete;
  assign complete = order_valid && result_valid && done_valid;

  always_comb begin
    state_d       = state_q;
    finish        = 1'b0;
    broken_o      = 1'b0;
    unique case (state_q)
      StEvent: begin
        if (complete && trace_ready_i) begin
          broken_o = bus_err;
          state_d  = bus_err ? StDead : StUsed;
        end
      end
      StUsed: begin
        if (used_ready_i) begin
          finish  = 1'b1;
          state_d = StEvent;
        end
      end
      StDead:  finish = complete;
      default: state_d = StDead;
    endcase
  end

  assign used_valid_o  = state_q == StUsed;
  assign trace_valid_o = state_q == StEvent && complete;
  always_comb begin
    trace_o      = '0;
    trace_o.qid  = QueueIdx;
    trace_o.slot = order.pos.slot;
    trace_o.wrap = order.pos.wrap;
    trace_o.len  = 32'(done.len);
    if (bus_err) begin
      trace_o.kind = TraceQueueBroken;
      trace_o.code = BrokenBusError;
      trace_o.len  = '0;
    end else if (done.dropped) begin
      trace_o.kind = TraceTxDrop;
      trace_o.code = done.aborted ? DropBadRequest : done.reason;
    end else begin
      trace_o.kind = TraceTxFrame;
      trace_o.code = 8'(done.inserted);
    end
  end

  assign used_o = '{
          pos: order.pos,
          id: order.id,
          count: order.count,
          len: '0,
          first: 1'b1,
          last: 1'b1
      };
  logic unused_len;
  assign unused_len = ^order.len;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) state_q <= StEvent;
    else state_q <= state_d;
  end

  assign moving_o = (chain_valid_i && chain_ready_o) || (rd_valid_o && rd_ready_i)
                    || (in_valid_i && in_ready_o) || (pk_valid && pk_ready)
                    || state_d != state_q || finish;

  // Properties.
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!ended || result_room);
      assert (!done_valid_i || done_room);
      assert (!(pk_valid && in_hdr && !hdr_end) || !pk_last);
    end
  end

endmodule

`default_nettype wire
