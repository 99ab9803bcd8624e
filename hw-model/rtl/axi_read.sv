// AXI4 read master: one payload client with many bursts in flight, and small clients with one each.
//
//   seg -> split at MaxBurst -> AR (slot) ..... R -> reorder RAM -> beats in order of request
//   aux ---------------------> AR (id 8+n) .... R -> aux_beat
//
// A payload burst owns a slot of NumSlots and a region of the reorder RAM from issue to drain, so
// a response is never held back: rready is constant. Slot s uses identifier s mod PayloadIds;
// responses of one identifier come in order, so the oldest unanswered slot of an identifier is
// the one answered, and answers of different identifiers may come in any order. A burst is
// drained when it is whole. Payload leaves at one bus beat a cycle, each with the lane of its
// first byte and its number of bytes.
//
// Aux client n uses identifier PayloadIds + n and has one request in flight; its beats are shown
// raw. stop_i[0] holds payload, stop_i[1 + n] client n, hold_i all: nothing new is issued, what
// was issued is answered as usual.

`default_nettype none

module axi_read
  import tandem_nic_pkg::*;
#(
  parameter int unsigned DataW      = 512,
  parameter int unsigned AxiIdW     = 4,
  parameter int unsigned FunctionW  = 8,
  parameter int unsigned NumAux     = 4,
  parameter int unsigned PayloadIds = 8,     // a power of two
  parameter int unsigned NumSlots   = 32,    // a power of two, more than PayloadIds
  parameter int unsigned RobBeats   = 512,   // a power of two, at least 256
  localparam int unsigned Bytes     = DataW / 8,
  localparam int unsigned LaneW     = $clog2(Bytes)
) (
  input  wire logic                 clk_i,
  input  wire logic                 rst_ni,
  input  wire logic                 payload_clear_i,  // forget payload; none may be outstanding
  input  wire logic                 hold_i,
  input  wire logic [NumAux:0]      stop_i,

  input  wire logic                 seg_valid_i,
  output logic                      seg_ready_o,
  input  wire seg_t                 seg_i,
  input  wire logic                 seg_last_i,       // last of its chain

  output logic                      out_valid_o,
  input  wire logic                 out_ready_i,
  output logic [DataW-1:0]          out_data_o,
  output logic [LaneW-1:0]          out_lane_o,       // of the first byte
  output logic [LaneW:0]            out_count_o,      // bytes
  output logic                      out_last_o,       // last beat of the chain
  output logic                      out_err_o,        // the burst had a bus error

  input  wire logic [NumAux-1:0]    aux_valid_i,
  output logic [NumAux-1:0]         aux_ready_o,
  input  wire small_read_t          aux_i [NumAux],
  output logic [NumAux-1:0]         aux_beat_o,
  output logic [DataW-1:0]          aux_data_o,
  output logic                      aux_last_o,
  output logic                      aux_err_o,

  output logic                      payload_outstanding_o,
  output logic                      want_o,           // something can be issued
  output logic                      outstanding_o,
  output logic                      error_o,          // pulse: a burst ended with an error

  output logic [AxiIdW-1:0]         m_axi_arid_o,
  output logic [63:0]               m_axi_araddr_o,
  output logic [7:0]                m_axi_arlen_o,
  output logic [2:0]                m_axi_arsize_o,
  output logic [1:0]                m_axi_arburst_o,
  output logic [FunctionW-1:0]      m_axi_aruser_o,
  output logic                      m_axi_arvalid_o,
  input  wire logic                 m_axi_arready_i,
  input  wire logic [AxiIdW-1:0]    m_axi_rid_i,
  input  wire logic [DataW-1:0]     m_axi_rdata_i,
  input  wire logic [1:0]           m_axi_rresp_i,
  input  wire logic                 m_axi_rlast_i,
  input  wire logic                 m_axi_rvalid_i,
  output logic                      m_axi_rready_o
);

  localparam int unsigned MaxBurst = (256 * Bytes < 4096) ? 256 * Bytes : 4096;
  localparam int unsigned SlotW = $clog2(NumSlots);
  localparam int unsigned PidW = $clog2(PayloadIds);
  localparam int unsigned HiW = SlotW - PidW;
  localparam int unsigned RobW = $clog2(RobBeats);

  if (PayloadIds + NumAux > 2 ** AxiIdW) begin : gen_id_check
    $error("axi_read: AxiIdW is too small for all clients");
  end
  if (RobBeats < 256 || NumSlots <= PayloadIds) begin : gen_size_check
    $error("axi_read: RobBeats or NumSlots too small");
  end

  typedef struct packed {
    logic [RobW-1:0]  start;
    logic [LaneW-1:0] lane;
    logic [12:0]      bytes;
    logic             last;
  } slot_t;

  // Bursts of the segment in hand.
  seg_t        seg_q;
  logic        seg_valid_q;
  logic        seg_last_q;
  logic [12:0] to_edge;
  logic [12:0] burst_bytes;
  logic        burst_ends;
  logic [8:0]  burst_beats;
  assign to_edge     = 13'(MaxBurst) - 13'(seg_q.addr[11:0] & 12'(MaxBurst - 1));
  assign burst_ends  = seg_q.len <= 32'(to_edge);
  assign burst_bytes = burst_ends ? seg_q.len[12:0] : to_edge;
  assign burst_beats = 9'((13'(seg_q.addr[LaneW-1:0]) + burst_bytes + 13'(Bytes - 1)) >> LaneW);

  // Slots, a ring: head is drained, tail is issued.
  slot_t                 slot_q [NumSlots];
  logic [NumSlots-1:0]   done_q;
  logic [NumSlots-1:0]   err_q;
  logic [SlotW:0]        head_q;
  logic [SlotW:0]        tail_q;
  logic [RobW:0]         rob_used_q;
  logic [RobW-1:0]       rob_tail_q;
  logic [SlotW:0]        flying_q;     // bursts unanswered
  logic                  slot_free;
  assign slot_free = (tail_q - head_q) != (SlotW + 1)'(NumSlots)
                     && rob_used_q + (RobW + 1)'(burst_beats) <= (RobW + 1)'(RobBeats);

  // Choice of the next address: the client after the last one that was served goes first.
  localparam int unsigned NumReq = NumAux + 1;
  localparam int unsigned ReqW = $clog2(NumReq);
  logic [NumReq-1:0] eligible;
  logic [ReqW-1:0]   pick;
  logic              pick_valid;
  assign eligible = {aux_valid_i, seg_valid_q && slot_free} & ~stop_i;
  logic [NumReq-1:0] gnt;
  logic              issue;
  rr_pick #(
    .N(NumReq)
  ) u_pick (
    .clk_i,
    .rst_ni,
    .req_i(eligible),
    .take_i(issue),
    .valid_o(pick_valid),
    .gnt_o(gnt),
    .idx_o(pick)
  );

  logic arvalid_q;
  logic issue_payload;
  assign issue         = pick_valid && !hold_i && (!arvalid_q || m_axi_arready_i);
  assign issue_payload = issue && gnt[0];
  assign aux_ready_o   = issue ? gnt[NumReq-1:1] : '0;

  small_read_t aux_pick;
  always_comb begin
    aux_pick = aux_i[0];
    for (int unsigned i = 0; i < NumAux; i++) if (gnt[i+1]) aux_pick = aux_i[i];
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      arvalid_q <= 1'b0;
    end else if (issue) begin
      arvalid_q <= 1'b1;
    end else if (m_axi_arready_i) begin
      arvalid_q <= 1'b0;
    end
  end

  always_ff @(posedge clk_i) begin
    if (issue) begin
      if (gnt[0]) begin
        m_axi_arid_o   <= AxiIdW'(tail_q[PidW-1:0]);
        m_axi_araddr_o <= seg_q.addr;
        m_axi_arlen_o  <= 8'(burst_beats - 1'b1);
      end else begin
        m_axi_arid_o   <= AxiIdW'(PayloadIds - 1) + AxiIdW'(pick);
        m_axi_araddr_o <= aux_pick.addr;
        m_axi_arlen_o  <= 8'((12'(aux_pick.addr[LaneW-1:0]) + aux_pick.len - 1'b1) >> LaneW);
      end
    end
  end

  assign m_axi_arvalid_o = arvalid_q;
  assign m_axi_arsize_o  = 3'(LaneW);
  assign m_axi_arburst_o = 2'b01;
  assign m_axi_aruser_o  = '0;
  assign m_axi_rready_o  = 1'b1;

  // The segment register.
  assign seg_ready_o = !seg_valid_q || (issue_payload && burst_ends);
  always_ff @(posedge clk_i) begin
    if (!rst_ni || payload_clear_i) begin
      seg_valid_q <= 1'b0;
    end else if (seg_ready_o) begin
      seg_valid_q <= seg_valid_i;
    end
  end
  always_ff @(posedge clk_i) begin
    if (seg_ready_o) begin
      seg_q      <= seg_i;
      seg_last_q <= seg_last_i;
    end else if (issue_payload) begin
      seg_q.addr <= seg_q.addr + 64'(burst_bytes);
      seg_q.len  <= seg_q.len - 32'(burst_bytes);
    end
  end

  // Responses.
  logic                  r_payload;
  logic                  r_end;
  logic                  r_bad;
  logic [PidW-1:0]       r_pid;
  logic [HiW-1:0]        hi_q [PayloadIds];
  logic [7:0]            beat_q [PayloadIds];
  logic [SlotW-1:0]      r_slot;
  assign r_payload = m_axi_rvalid_i && m_axi_rid_i < AxiIdW'(PayloadIds);
  assign r_end     = m_axi_rvalid_i && m_axi_rlast_i;
  assign r_bad     = m_axi_rresp_i inside {2'b10, 2'b11};   // SLVERR, DECERR
  assign r_pid     = m_axi_rid_i[PidW-1:0];
  assign r_slot    = {hi_q[r_pid], r_pid};

  logic [DataW-1:0] rob_q[RobBeats];
  always_ff @(posedge clk_i) begin
    if (r_payload) rob_q[slot_q[r_slot].start+RobW'(beat_q[r_pid])] <= m_axi_rdata_i;
  end

  always_comb begin
    aux_beat_o = '0;
    for (int unsigned i = 0; i < NumAux; i++)
    aux_beat_o[i] = m_axi_rvalid_i && m_axi_rid_i == AxiIdW'(PayloadIds + i);
  end
  assign aux_data_o = m_axi_rdata_i;
  assign aux_last_o = m_axi_rlast_i;
  assign aux_err_o  = r_bad;

  // A burst counts as one error, however many of its beats had it; an aux burst's beats are few.
  logic aux_bad_q;
  logic burst_bad;
  assign burst_bad = r_payload ? (r_bad || err_q[r_slot]) : (r_bad || aux_bad_q);
  assign error_o   = r_end && burst_bad;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) aux_bad_q <= 1'b0;
    else if (m_axi_rvalid_i && !r_payload) aux_bad_q <= r_bad && !m_axi_rlast_i;
  end

  // Drain.
  logic [SlotW-1:0] head;
  logic             head_ready;
  logic             rd_en;
  logic [7:0]       drain_beat_q;
  logic [12:0]      drain_left_q;     // bytes left after the first beat
  logic [LaneW-1:0] drain_lane;
  logic [12:0]      drain_have;
  logic [12:0]      drain_span;
  logic [LaneW:0]   drain_count;
  logic             drain_ends;
  slot_t            head_slot;
  assign head        = head_q[SlotW-1:0];
  assign head_slot   = slot_q[head];
  assign head_ready  = head_q != tail_q && done_q[head];
  assign rd_en       = head_ready && (!out_valid_o || out_ready_i);
  assign drain_lane  = drain_beat_q == '0 ? head_slot.lane : '0;
  assign drain_have  = drain_beat_q == '0 ? head_slot.bytes : drain_left_q;
  assign drain_span  = 13'(Bytes) - 13'(drain_lane);
  assign drain_ends  = drain_have <= drain_span;
  assign drain_count = drain_ends ? drain_have[LaneW:0] : drain_span[LaneW:0];

  always_ff @(posedge clk_i) begin
    if (rd_en) begin
      out_data_o  <= rob_q[head_slot.start + RobW'(drain_beat_q)];
      out_lane_o  <= drain_lane;
      out_count_o <= drain_count;
      out_last_o  <= drain_ends && head_slot.last;
      out_err_o   <= err_q[head];
    end
  end

  always_ff @(posedge clk_i) begin
    if (issue_payload) begin
      slot_q[tail_q[SlotW-1:0]] <= '{
          start: rob_tail_q,
          lane: seg_q.addr[LaneW-1:0],
          bytes: burst_bytes,
          last: burst_ends && seg_last_q
      };
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni || payload_clear_i) begin
      done_q       <= '0;
      err_q        <= '0;
      head_q       <= '0;
      tail_q       <= '0;
      rob_used_q   <= '0;
      rob_tail_q   <= '0;
      flying_q     <= '0;
      out_valid_o  <= 1'b0;
      drain_beat_q <= '0;
      drain_left_q <= '0;
      for (int unsigned i = 0; i < PayloadIds; i++) begin
        hi_q[i]   <= '0;
        beat_q[i] <= '0;
      end
    end else begin
      if (issue_payload) begin
        tail_q     <= tail_q + 1'b1;
        rob_tail_q <= rob_tail_q + RobW'(burst_beats);
        done_q[tail_q[SlotW-1:0]] <= 1'b0;
        err_q[tail_q[SlotW-1:0]]  <= 1'b0;
      end
      rob_used_q <= rob_used_q + (issue_payload ? (RobW + 1)'(burst_beats) : '0)
                    - (RobW + 1)'(rd_en);
      if (r_payload) begin
        beat_q[r_pid] <= beat_q[r_pid] + 1'b1;
        if (r_bad) err_q[r_slot] <= 1'b1;
        if (m_axi_rlast_i) begin
          done_q[r_slot] <= 1'b1;
          beat_q[r_pid]  <= '0;
          hi_q[r_pid]    <= hi_q[r_pid] + 1'b1;
        end
      end
      flying_q <= flying_q + (SlotW + 1)'(issue_payload) - (SlotW + 1)'(r_payload && m_axi_rlast_i);
      if (rd_en) begin
        out_valid_o  <= 1'b1;
        drain_beat_q <= drain_ends ? '0 : drain_beat_q + 1'b1;
        drain_left_q <= drain_have - drain_span;
        if (drain_ends) head_q <= head_q + 1'b1;
      end else if (out_ready_i) begin
        out_valid_o <= 1'b0;
      end
    end
  end

  logic [7:0] aux_flying_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) aux_flying_q <= '0;
    else aux_flying_q <= aux_flying_q + 8'(issue && !issue_payload) - 8'(r_end && !r_payload);
  end

  assign payload_outstanding_o = flying_q != '0;
  assign want_o                = issue;
  assign outstanding_o         = flying_q != '0 || aux_flying_q != '0;

  // Properties.
  logic             past_stalled_q;
  logic [63:0]      past_addr_q;
  always_ff @(posedge clk_i) begin
    past_stalled_q <= rst_ni && m_axi_arvalid_o && !m_axi_arready_i;
    past_addr_q    <= m_axi_araddr_o;
    if (rst_ni && past_stalled_q) begin
      assert (m_axi_arvalid_o && m_axi_araddr_o == past_addr_q);
    end
    if (rst_ni) begin
      assert (!payload_clear_i || flying_q == '0);
      assert (rob_used_q <= (RobW + 1)'(RobBeats));
      assert (!r_payload || flying_q != '0);
      assert (!m_axi_arvalid_o
              || {52'd0, m_axi_araddr_o[11:0] & 12'(~(Bytes - 1))}
                 + ((64'(m_axi_arlen_o) + 64'd1) << LaneW) <= 64'd4096);
    end
  end

endmodule

`default_nettype wire
