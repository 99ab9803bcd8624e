// Front of one packed virtqueue: reads descriptors ahead and turns them into checked chains.
//
//   kick -> request up to 32 descriptors -> wait -> walk one a cycle -> seg fifo   (a buffer each)
//             ^                                        |           \-> chain fifo (a chain each)
//             |                                        v
//             +---- all were available       none available: write the event area, look again
//
// One read is in flight; it asks for FetchMin descriptors after an idle spell and doubles up to
// FetchMax while the ring keeps up, so a ring is read at FetchMax descriptors a round trip.
//
// Nothing that the ring says is believed: at most `size` descriptors are outstanding between
// reading and used element, so the FIFOs cannot overflow; what breaks a rule ends the queue
// (state StBroken) with one event, and chains read before it stand. A chain that stops at an
// unavailable descriptor is read once more before it counts as broken, because a burst that was
// read in pieces may have seen the head before its successors.
//
// With EVENT_IDX the device's event area is set to the slot it waits for whenever the queue runs
// empty, and the ring is read again after that write was answered (virtio 1.3, 2.8.21.3.1).
// Without it, the area is set to ENABLE once.

`default_nettype none

module vq_front
  import tandem_pkg::*;
  import tandem_nic_pkg::*;
#(
  parameter int unsigned DataW        = 512,
  parameter int unsigned QueueSizeMax = 256,
  parameter int unsigned FrameLenMax  = 9234,
  parameter bit          Rx           = 1'b0,
  parameter logic [7:0]  QueueIdx     = 8'd0,
  parameter int unsigned FetchMin     = 8,     // descriptors, a power of two
  parameter int unsigned FetchMax     = 32     // descriptors, a power of two
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,

  input  wire logic             active_i,      // enabled, DRIVER_OK, not stopping
  input  wire logic [63:4]      desc_i,        // the descriptor ring's address
  input  wire logic [63:2]      area_i,        // the device event suppression area's
  input  wire logic [15:0]      size_i,        // descriptors, at least 1
  input  wire logic             event_idx_i,
  input  wire logic [7:0]       hdr_len_i,     // bytes of the virtio-net header
  input  wire logic             kick_i,

  output logic                  rd_valid_o,
  input  wire logic             rd_ready_i,
  output small_read_t           rd_o,
  input  wire logic             rd_beat_i,     // a beat of the answer
  input  wire logic [DataW-1:0] rd_data_i,
  input  wire logic             rd_last_i,
  input  wire logic             rd_err_i,

  output logic                  ev_valid_o,
  input  wire logic             ev_ready_i,
  output small_write_t          ev_o,
  input  wire logic             ev_done_i,
  input  wire logic             ev_err_i,

  output logic                  seg_valid_o,
  input  wire logic             seg_ready_i,
  output seg_t                  seg_o,

  output logic                  chain_valid_o,
  input  wire logic             chain_ready_i,
  output chain_t                chain_o,

  input  wire logic             freed_i,       // `freed_count_i` descriptors have used elements
  input  wire logic [15:0]      freed_count_i,

  output logic                  starved_o,     // no chain will come without the driver
  output logic [47:0]           bytes_o,       // bytes in the chains of the chain fifo

  output logic                  trace_valid_o,
  input  wire logic             trace_ready_i,
  output trace_event_t          trace_o,
  output logic                  broken_o,      // pulse
  output logic                  outstanding_o, // a read or write is unanswered
  output logic                  moving_o       // its state changes
);

  localparam int unsigned Bytes = DataW / 8;
  localparam int unsigned LaneW = $clog2(Bytes);
  localparam int unsigned BufBeats = FetchMax * 16 / Bytes + 1;
  localparam int unsigned BeatW = $clog2(BufBeats + 1);
  localparam int unsigned FetchW = $clog2(FetchMax + 1);

  typedef enum logic [3:0] {
    StIdle,
    StAsk,
    StRequest,
    StWait,
    StWalk,
    StBreak,
    StEvent,
    StEventWait,
    StFull,
    StBroken
  } state_e;

  state_e state_q, state_d;
  ring_pos_t pos_q, pos_d;  // the descriptor to look at next
  logic [15:0] held_q, held_d;  // descriptors read and not yet used
  logic kick_q, kick_d;
  logic seen_q, seen_d;  // active was seen: the first look needs no kick
  logic enabled_q, enabled_d;  // the event area was written since activation
  logic armed_q, armed_d;  // the event area says pos_q
  logic mid_q, mid_d;  // inside a chain
  logic retry_q, retry_d;  // the chain's next descriptor was read twice
  ring_pos_t head_q, head_d;
  logic [15:0] count_q, count_d;
  logic [31:0] len_q, len_d;
  logic [FetchW-1:0] want_q, want_d;  // descriptors to ask for
  logic [FetchW-1:0] got_q, got_d;  // descriptors asked for
  logic [FetchW-1:0] walk_q, walk_d;  // of them, looked at
  logic [BeatW-1:0] beat_q, beat_d;
  logic err_q, err_d;
  broken_e code_q, code_d;
  logic [47:0]       bytes_q;
  logic [15:0]       taken_q;               // descriptors of chains taken out and not yet used

  logic [DataW-1:0]  buf_q [BufBeats];

  logic [63:0] addr;
  assign addr = {desc_i, 4'd0} + {44'd0, pos_q.slot, 4'd0};

  // Descriptors that may be read: to the end of ring and page, and not beyond what may be
  // outstanding.
  logic [15:0] room;
  logic [15:0] to_end;
  logic [15:0] to_page;
  logic [15:0] ask;
  always_comb begin
    room    = size_i - held_q;
    to_end  = size_i - pos_q.slot;
    to_page = 16'd256 - {8'd0, addr[11:4]};
    ask     = 16'(want_q);
    if (room < ask) ask = room;
    if (to_end < ask) ask = to_end;
    if (to_page < ask) ask = to_page;
  end

  // The descriptor under the walk.
  desc_t            desc;
  logic [LaneW-1:0] lane0;
  assign lane0 = addr[LaneW-1:0];  // of pos_q; beats of the buffer start at fetch_lane_q
  logic [LaneW-1:0] fetch_lane_q, fetch_lane_d;
  if (Bytes >= 16) begin : gen_wide
    logic [15:0] off;
    assign off  = 16'(fetch_lane_q) + {16'(walk_q) << 4};
    assign desc = 128'(buf_q[BeatW'(off >> LaneW)] >> {off[LaneW-1:0], 3'd0});
  end else begin : gen_narrow
    assign desc = {buf_q[BeatW'({walk_q, 1'b1})], buf_q[BeatW'({walk_q, 1'b0})]};
  end

  logic desc_avail;
  logic desc_next;
  assign desc_avail = desc.flags[DescAvail] == pos_q.wrap && desc.flags[DescUsed] != pos_q.wrap;
  assign desc_next  = desc.flags[DescNext];

  logic [32:0] len_sum;
  logic [31:0] len_sat;
  assign len_sum = {1'b0, mid_q ? len_q : 32'd0} + {1'b0, desc.len};
  assign len_sat = len_sum[32] ? '1 : len_sum[31:0];
  logic [15:0] count_now;
  assign count_now = (mid_q ? count_q : 16'd0) + 16'd1;

  // The rule that this descriptor breaks, if any, in this order.
  logic    bad;
  broken_e bad_code;
  always_comb begin
    bad      = 1'b1;
    bad_code = BrokenBadFlags;
    if (desc.flags[DescIndirect]) bad_code = BrokenBadFlags;  // not negotiated
    else if (desc.flags[DescWrite] != Rx) bad_code = BrokenWrongDirection;
    else if (desc.len == '0) bad_code = BrokenZeroLength;
    else if (desc_next && count_now >= size_i) bad_code = BrokenChainTooLong;
    else if (!Rx && !desc_next
             && (len_sat < 32'(hdr_len_i) || len_sat > 32'(hdr_len_i) + FrameLenMax))
      bad_code = BrokenBadLength;
    else bad = 1'b0;
  end

  seg_t   seg_push;
  chain_t chain_push;
  logic   seg_push_valid;
  logic   chain_push_valid;
  assign seg_push   = '{addr: desc.addr, len: desc.len};
  assign chain_push = '{pos: mid_q ? head_q : pos_q, id: desc.id, count: count_now, len: len_sat};

  logic announce;
  assign announce = !Rx && state_q == StWalk && walk_q != got_q && desc_avail && !bad && !desc_next;

  always_comb begin
    state_d   = state_q;
    pos_d     = pos_q;
    kick_d    = kick_q || kick_i;
    seen_d    = seen_q && active_i;
    enabled_d = enabled_q;
    armed_d   = armed_q;
    mid_d     = mid_q;
    retry_d   = retry_q;
    head_d    = head_q;
    count_d   = count_q;
    len_d     = len_q;
    want_d    = want_q;
    got_d     = got_q;
    walk_d    = walk_q;
    beat_d    = beat_q;
    err_d     = err_q;
    code_d    = code_q;
    fetch_lane_d = fetch_lane_q;
    held_d    = held_q - (freed_i ? freed_count_i : 16'd0);
    seg_push_valid   = 1'b0;
    chain_push_valid = 1'b0;
    broken_o         = 1'b0;

    unique case (state_q)
      StIdle: begin
        if (active_i && (kick_q || !seen_q)) begin
          kick_d  = kick_i;
          seen_d  = 1'b1;
          want_d  = FetchW'(FetchMin);
          state_d = StAsk;
        end
      end

      StAsk: begin
        got_d        = FetchW'(ask);
        walk_d       = '0;
        beat_d       = '0;
        err_d        = 1'b0;
        fetch_lane_d = lane0;
        if (!active_i) begin
          kick_d  = 1'b1;
          state_d = StIdle;
        end else if (ask == '0) begin
          state_d = StFull;
        end else begin
          state_d = StRequest;
        end
      end

      StRequest: begin
        if (rd_ready_i) state_d = StWait;
      end

      StWait: begin
        if (rd_beat_i) begin
          beat_d = beat_q + 1'b1;
          err_d  = err_q || rd_err_i;
          if (rd_last_i) begin
            state_d = StWalk;
            if (err_d) begin
              code_d  = BrokenBusError;
              state_d = StBreak;
            end
          end
        end
      end

      StWalk: begin
        if (walk_q == got_q) begin
          // All were available: the ring keeps up.
          if (want_q < FetchW'(FetchMax)) want_d = FetchW'({want_q, 1'b0});
          state_d = StAsk;
        end else if (!desc_avail) begin
          if (mid_q) begin
            code_d  = BrokenChainNotAvailable;
            retry_d = 1'b1;
            state_d = retry_q ? StBreak : StAsk;
          end else if (event_idx_i ? armed_q : enabled_q) begin
            state_d = StIdle;
          end else begin
            state_d = StEvent;
          end
        end else if (bad) begin
          code_d  = bad_code;
          state_d = StBreak;
        end else begin
          // A transmit chain is announced when it is complete.
          if (!announce || trace_ready_i) begin
            seg_push_valid   = 1'b1;
            chain_push_valid = !desc_next;
            held_d  = held_q - (freed_i ? freed_count_i : 16'd0) + 16'd1;
            mid_d   = desc_next;
            retry_d = 1'b0;
            armed_d = 1'b0;
            if (!mid_q) head_d = pos_q;
            count_d = count_now;
            len_d   = len_sat;
            pos_d   = advance(pos_q, 16'd1, size_i);
            walk_d  = walk_q + 1'b1;
          end
        end
      end

      StBreak: begin
        if (trace_ready_i) begin
          broken_o = 1'b1;
          state_d  = StBroken;
        end
      end

      StEvent: begin
        if (ev_ready_i) state_d = StEventWait;
      end

      StEventWait: begin
        if (ev_done_i) begin
          enabled_d = 1'b1;
          armed_d   = 1'b1;
          want_d    = FetchW'(FetchMin);
          state_d   = StAsk;
          if (ev_err_i) begin
            code_d  = BrokenBusError;
            state_d = StBreak;
          end
        end
      end

      // As many descriptors as the ring has are outstanding.
      StFull: begin
        if (!active_i) begin
          kick_d  = 1'b1;
          state_d = StIdle;
        end else if (held_q != size_i) begin
          state_d = StAsk;
        end
      end

      StBroken: ;

      default: state_d = StBroken;
    endcase
  end

  // What is asked for depends on the state alone, never on an answer of the same cycle.
  assign rd_valid_o    = state_q == StRequest;
  assign ev_valid_o    = state_q == StEvent;
  assign trace_valid_o = announce || state_q == StBreak;
  always_comb begin
    trace_o     = '0;
    trace_o.qid = QueueIdx;
    if (state_q == StBreak) begin
      trace_o.kind = TraceQueueBroken;
      trace_o.code = code_q;
      trace_o.slot = pos_q.slot;
      trace_o.wrap = pos_q.wrap;
    end else begin
      trace_o.kind = TraceTxFetch;
      trace_o.slot = chain_push.pos.slot;
      trace_o.wrap = chain_push.pos.wrap;
      trace_o.len  = len_sat - 32'(hdr_len_i);
      trace_o.arg  = 32'(count_now);
    end
  end

  assign rd_o = '{addr: addr, len: 12'({got_q, 4'd0})};

  always_comb begin
    ev_o.addr = {area_i, 2'd0};
    ev_o.wide = 1'b0;
    ev_o.data = '0;
    if (event_idx_i) ev_o.data = {2{EventDesc, pos_q.wrap, pos_q.slot[14:0]}};
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q   <= StIdle;
      pos_q     <= '{wrap: 1'b1, slot: '0};  // both counters start at 1 (2.8.1)
      held_q    <= '0;
      kick_q    <= 1'b0;
      seen_q    <= 1'b0;
      enabled_q <= 1'b0;
      armed_q   <= 1'b0;
      mid_q     <= 1'b0;
      retry_q   <= 1'b0;
      head_q    <= '0;
      count_q   <= '0;
      len_q     <= '0;
      want_q    <= FetchW'(FetchMin);
      got_q     <= '0;
      walk_q    <= '0;
      beat_q    <= '0;
      err_q     <= 1'b0;
      code_q    <= BrokenBusError;
      bytes_q   <= '0;
      taken_q   <= '0;
      fetch_lane_q <= '0;
    end else begin
      state_q   <= state_d;
      pos_q     <= pos_d;
      held_q    <= held_d;
      kick_q    <= kick_d;
      seen_q    <= seen_d;
      enabled_q <= enabled_d;
      armed_q   <= armed_d;
      mid_q     <= mid_d;
      retry_q   <= retry_d;
      head_q    <= head_d;
      count_q   <= count_d;
      len_q     <= len_d;
      want_q    <= want_d;
      got_q     <= got_d;
      walk_q    <= walk_d;
      beat_q    <= beat_d;
      err_q     <= err_d;
      code_q    <= code_d;
      fetch_lane_q <= fetch_lane_d;
      taken_q   <= taken_q + (chain_valid_o && chain_ready_i ? chain_o.count : 16'd0)
                   - (freed_i ? freed_count_i : 16'd0);
      bytes_q   <= bytes_q + (chain_push_valid ? 48'(chain_push.len) : 48'd0)
                   - (chain_valid_o && chain_ready_i ? 48'(chain_o.len) : 48'd0);
    end
  end

  always_ff @(posedge clk_i) begin
    if (state_q == StWait && rd_beat_i) buf_q[beat_q] <= rd_data_i;
  end

  logic seg_room;
  sync_fifo #(
    .Width($bits(seg_t)),
    .Depth(QueueSizeMax)
  ) u_seg (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(seg_push_valid),
    .in_ready_o(seg_room),
    .in_data_i(seg_push),
    .out_valid_o(seg_valid_o),
    .out_ready_i(seg_ready_i),
    .out_data_o(seg_o),
    .count_o()
  );
  logic chain_room;
  sync_fifo #(
    .Width($bits(chain_t)),
    .Depth(QueueSizeMax)
  ) u_chain (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(chain_push_valid),
    .in_ready_o(chain_room),
    .in_data_i(chain_push),
    .out_valid_o(chain_valid_o),
    .out_ready_i(chain_ready_i),
    .out_data_o(chain_o),
    .count_o()
  );

  assign bytes_o       = bytes_q;
  assign outstanding_o = state_q == StWait || state_q == StEventWait;
  assign moving_o      = state_d != state_q || seg_push_valid;
  // Full only of chains that are still in the fifo: only the driver can end that.
  assign starved_o     = state_q == StBroken
                         || (state_q == StFull && taken_q == '0 && held_q == size_i)
                         || (state_q == StIdle && !(active_i && (kick_q || !seen_q)));

  // Properties.
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!seg_push_valid || seg_room);
      assert (!chain_push_valid || chain_room);
      assert (held_q <= size_i || !active_i);
      assert (!(freed_i && freed_count_i > held_q));
    end
  end

endmodule

`default_nettype wire
