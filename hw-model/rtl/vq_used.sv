// Back of one packed virtqueue: writes used elements, sees their responses, decides about
// interrupts.
//
//   used -> write (up to Pending in flight) -> response -> trace -> freed
//                                                 \-> read event suppression -> interrupt or not
//
// A set of several elements (a frame in several buffers) is written from its second to its last,
// and its first when all those were answered: the driver that finds the first finds all (virtio
// 1.3, 2.8.7). The driver's event area is read after the responses (2.8.21.2.1); used elements
// that are answered meanwhile are covered by the next reading, so notifications batch by
// themselves.

`default_nettype none

module vq_used
  import tandem_pkg::*;
  import tandem_nic_pkg::*;
#(
  parameter int unsigned DataW    = 512,
  parameter bit          Rx       = 1'b0,
  parameter logic [7:0]  QueueIdx = 8'd0,
  parameter int unsigned Pending  = 32,
  localparam int unsigned Bytes   = DataW / 8,
  localparam int unsigned LaneW   = $clog2(Bytes)
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic [63:4]      desc_i,        // the descriptor ring's address
  input  wire logic [63:2]      area_i,        // the driver event suppression area's
  input  wire logic [15:0]      size_i,        // descriptors, at least 1
  input  wire logic             event_idx_i,

  input  wire logic             used_valid_i,
  output logic                  used_ready_o,
  input  wire used_t            used_i,

  output logic                  wr_valid_o,
  input  wire logic             wr_ready_i,
  output small_write_t          wr_o,
  input  wire logic             wr_done_i,
  input  wire logic             wr_err_i,

  output logic                  rd_valid_o,
  input  wire logic             rd_ready_i,
  output small_read_t           rd_o,
  input  wire logic             rd_beat_i,
  input  wire logic [DataW-1:0] rd_data_i,
  input  wire logic             rd_err_i,

  output logic                  freed_o,
  output logic [15:0]           freed_count_o,

  output logic                  irq_o,          // pulse: notify the driver
  output logic                  trace_valid_o,
  input  wire logic             trace_ready_i,
  output trace_event_t          trace_o,
  output logic                  broken_o,
  output logic                  outstanding_o,  // something is unanswered or not traced
  output logic                  moving_o
);

  typedef struct packed {
    used_t       used;
    logic        commit;     // the driver sees `span` more descriptors
    logic [15:0] span;
    ring_pos_t   next;
  } pend_t;

  // Write side.
  used_t       held_q;
  logic        held_valid_q;
  logic        barrier_q;      // all but the held one were issued
  logic [15:0] span_q;         // descriptors of the set so far
  ring_pos_t   after_q;        // the slot after the set
  logic        hold;
  logic        pend_valid;
  logic        pend_ready;
  logic        pend_pop;
  pend_t       pend_push;
  pend_t       pend;
  logic        dead_q;
  used_t       now;
  ring_pos_t   now_next;
  logic        wr_take;
  assign wr_take  = wr_valid_o && wr_ready_i;

  assign hold     = used_valid_i && used_i.first && !used_i.last;
  assign now      = barrier_q ? held_q : used_i;
  assign now_next = advance(now.pos, now.count, size_i);

  // A set's first element is put aside; everything else is written as it comes.
  assign wr_valid_o   = !dead_q && (barrier_q ? !pend_valid : used_valid_i && !hold && pend_ready);
  assign used_ready_o = !barrier_q && (hold || wr_take);

  assign pend_push.used   = now;
  assign pend_push.commit = barrier_q || !held_valid_q;
  assign pend_push.span   = barrier_q ? span_q : now.count;
  assign pend_push.next   = barrier_q ? after_q : now_next;

  // In a used element the flag WRITE says that the length counts (2.8.6).
  logic [15:0] flags;
  always_comb begin
    flags            = '0;
    flags[DescAvail] = now.pos.wrap;
    flags[DescUsed]  = now.pos.wrap;
    flags[DescWrite] = Rx;
  end
  // Length, identifier and flags, one write of 8 bytes; the driver has no use for the address.
  assign wr_o.addr = {desc_i, 4'd0} + {44'd0, now.pos.slot, 4'd8};
  assign wr_o.wide = 1'b1;
  assign wr_o.data = {flags, now.id, now.len};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      held_valid_q <= 1'b0;
      barrier_q    <= 1'b0;
      span_q       <= '0;
      after_q      <= '0;
    end else if (barrier_q) begin
      if (wr_take) begin
        barrier_q    <= 1'b0;
        held_valid_q <= 1'b0;
      end
    end else if (used_valid_i && used_ready_o) begin
      if (hold) begin
        held_valid_q <= 1'b1;
        span_q       <= used_i.count;
      end else if (held_valid_q) begin
        span_q    <= span_q + used_i.count;
        after_q   <= now_next;
        barrier_q <= used_i.last;
      end
    end
  end
  always_ff @(posedge clk_i) if (hold && used_ready_o) held_q <= used_i;

  sync_fifo #(
    .Width($bits(pend_t)),
    .Depth(Pending)
  ) u_pend (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(wr_take),
    .in_ready_o(pend_ready),
    .in_data_i(pend_push),
    .out_valid_o(pend_valid),
    .out_ready_i(pend_pop),
    .out_data_o(pend),
    .count_o()
  );
  // Answers that were not looked at yet.
  logic answer_valid;
  logic answer_err;
  logic answer_room;
  sync_fifo #(
    .Width(1),
    .Depth(Pending)
  ) u_answer (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(wr_done_i),
    .in_ready_o(answer_room),
    .in_data_i(wr_err_i),
    .out_valid_o(answer_valid),
    .out_ready_i(pend_pop),
    .out_data_o(answer_err),
    .count_o()
  );

  // Interrupt side.
  typedef enum logic [1:0] {
    NtIdle,
    NtRead,
    NtWait,
    NtDecide
  } notify_e;
  notify_e notify_q, notify_d;
  logic        due_q;            // elements were answered since the area was read
  logic [15:0] since_q;          // descriptors of them
  ring_pos_t   pos_q;            // the slot after them
  logic [15:0] asked_since_q;    // the same at the time of the reading
  ring_pos_t   asked_pos_q;
  logic [31:0] area_q;
  logic        area_err_q;
  logic [31:0] rd_area;
  assign rd_area = 32'(rd_data_i >> {area_i[LaneW-1:2], 5'd0});
  logic asking;
  assign asking = notify_q == NtRead && rd_ready_i;

  // Whether the driver's event offset lies among the `since` descriptors before `pos`: distances
  // are counted back from pos; an offset with the other wrap counter is one lap behind.
  logic [16:0] back;
  logic        wanted;
  always_comb begin
    back = {1'b0, asked_pos_q.slot} - {2'd0, area_q[14:0]}
           + (area_q[15] != asked_pos_q.wrap ? {1'b0, size_i} : 17'd0);
    unique case (area_q[31:16])
      EventDisable: wanted = 1'b0;
      EventDesc:    wanted = !event_idx_i
                             || (!back[16] && back != '0 && back <= {1'b0, asked_since_q});
      default:      wanted = 1'b1;
    endcase
  end

  // One event at a time: the used element first.
  always_comb begin
    notify_d      = notify_q;
    pend_pop      = 1'b0;
    freed_o       = 1'b0;
    irq_o         = 1'b0;
    broken_o      = 1'b0;
    if (answer_valid) begin
      pend_pop      = trace_ready_i || !trace_valid_o;
      freed_o       = pend_pop && !answer_err;
      broken_o      = pend_pop && answer_err && !dead_q;
    end

    unique case (notify_q)
      NtIdle: if (due_q && !dead_q) notify_d = NtRead;
      NtRead: begin
        if (rd_ready_i) notify_d = NtWait;
      end
      NtWait: if (rd_beat_i) notify_d = NtDecide;
      NtDecide: begin
        if (!answer_valid) begin
          if (trace_ready_i || !trace_valid_o) begin
            irq_o    = !area_err_q && wanted;
            broken_o = area_err_q && !dead_q;
            notify_d = NtIdle;
          end
        end
      end
      default: notify_d = NtIdle;
    endcase
  end

  assign rd_valid_o = notify_q == NtRead;
  always_comb begin
    trace_valid_o = 1'b0;
    trace_o       = '0;
    trace_o.qid   = QueueIdx;
    if (answer_valid) begin
      trace_valid_o = !(answer_err && dead_q);
      trace_o.kind  = answer_err ? TraceQueueBroken : TraceUsed;
      trace_o.code  = answer_err ? BrokenBusError : 8'd0;
      trace_o.slot  = pend.used.pos.slot;
      trace_o.wrap  = pend.used.pos.wrap;
      trace_o.len   = answer_err ? '0 : pend.used.len;
      trace_o.arg   = answer_err ? '0 : 32'(pend.used.id);
    end else if (notify_q == NtDecide) begin
      trace_valid_o = area_err_q ? !dead_q : !wanted;
      trace_o.kind  = area_err_q ? TraceQueueBroken : TraceIrqSuppressed;
      trace_o.code  = area_err_q ? BrokenBusError : 8'd0;
      trace_o.slot  = asked_pos_q.slot;
      trace_o.wrap  = asked_pos_q.wrap;
    end
  end

  assign freed_count_o = pend.used.count;

  logic [16:0] since_sum;
  assign since_sum = {1'b0, asking ? 16'd0 : since_q} + {1'b0, pend.span};
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      notify_q      <= NtIdle;
      due_q         <= 1'b0;
      since_q       <= '0;
      pos_q         <= '{wrap: 1'b1, slot: '0};
      asked_since_q <= '0;
      asked_pos_q   <= '0;
      area_q        <= '0;
      area_err_q    <= 1'b0;
      dead_q        <= 1'b0;
    end else begin
      notify_q <= notify_d;
      if (asking) begin
        due_q         <= 1'b0;
        since_q       <= '0;
        asked_since_q <= since_q;
        asked_pos_q   <= pos_q;
      end
      if (freed_o && pend.commit) begin
        due_q   <= 1'b1;
        // More than a lap cannot be told from a lap.
        since_q <= since_sum > {1'b0, size_i} ? size_i : since_sum[15:0];
        pos_q   <= pend.next;
      end
      if (notify_q == NtWait && rd_beat_i) begin
        area_q     <= rd_area;
        area_err_q <= rd_err_i;
      end
      if (broken_o) dead_q <= 1'b1;
    end
  end

  assign rd_o = '{addr: {area_i, 2'd0}, len: 12'd4};

  assign outstanding_o = pend_valid || notify_q == NtWait || notify_q == NtDecide;
  assign moving_o      = notify_d != notify_q || pend_pop || (used_valid_i && used_ready_o)
                         || wr_take;

  // Properties.
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!wr_done_i || answer_room);
      assert (!answer_valid || pend_valid);
    end
  end

endmodule

`default_nettype wire
