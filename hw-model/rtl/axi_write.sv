// AXI4 write master: one payload client with bursts, and small clients with single beats.
//
//   burst --\                          /-> order fifo -> W: payload beats, or the small one
//   aux[n] --> choose one a cycle -> AW
//                                       B -> done pulses, by identifier
//
// Data follow the order of addresses. A small write is copied into the order FIFO when it is
// chosen, so its client goes on at once. W never runs ahead of the AW handshake. Payload burst s
// uses identifier s mod PayloadIds and its completion is reported in order of issue; aux client n
// uses identifier PayloadIds + n and gets a pulse for each answer, in its own order. stop_i[0]
// holds payload, stop_i[1 + n] client n, hold_i all.

`default_nettype none

module axi_write
  import tandem_nic_pkg::*;
#(
  parameter int unsigned DataW      = 512,
  parameter int unsigned AxiIdW     = 4,
  parameter int unsigned FunctionW  = 8,
  parameter int unsigned NumAux     = 5,
  parameter int unsigned PayloadIds = 8,     // a power of two
  parameter int unsigned NumSlots   = 32,    // a power of two, more than PayloadIds
  localparam int unsigned Bytes     = DataW / 8,
  localparam int unsigned LaneW     = $clog2(Bytes)
) (
  input  wire logic                 clk_i,
  input  wire logic                 rst_ni,
  input  wire logic                 hold_i,
  input  wire logic [NumAux:0]      stop_i,

  input  wire logic                 burst_valid_i,
  output logic                      burst_ready_o,
  input  wire logic [63:0]          burst_addr_i,
  input  wire logic [8:0]           burst_beats_i,
  input  wire logic                 burst_last_i,     // last of its frame

  input  wire logic                 beat_valid_i,     // beats of bursts in order of issue
  output logic                      beat_ready_o,
  input  wire logic [DataW-1:0]     beat_data_i,
  input  wire logic [Bytes-1:0]     beat_strb_i,

  output logic                      frame_done_o,     // pulse: all bursts of a frame were answered
  output logic                      frame_err_o,

  input  wire logic [NumAux-1:0]    aux_valid_i,
  output logic [NumAux-1:0]         aux_ready_o,
  input  wire small_write_t         aux_i [NumAux],
  output logic [NumAux-1:0]         aux_done_o,
  output logic                      aux_err_o,

  output logic                      payload_outstanding_o,
  output logic                      outstanding_o,    // unanswered
  output logic                      want_o,           // something can be issued
  output logic                      error_o,

  output logic [AxiIdW-1:0]         m_axi_awid_o,
  output logic [63:0]               m_axi_awaddr_o,
  output logic [7:0]                m_axi_awlen_o,
  output logic [2:0]                m_axi_awsize_o,
  output logic [1:0]                m_axi_awburst_o,
  output logic [FunctionW-1:0]      m_axi_awuser_o,
  output logic                      m_axi_awvalid_o,
  input  wire logic                 m_axi_awready_i,
  output logic [DataW-1:0]          m_axi_wdata_o,
  output logic [Bytes-1:0]          m_axi_wstrb_o,
  output logic                      m_axi_wlast_o,
  output logic                      m_axi_wvalid_o,
  input  wire logic                 m_axi_wready_i,
  input  wire logic [AxiIdW-1:0]    m_axi_bid_i,
  input  wire logic [1:0]           m_axi_bresp_i,
  input  wire logic                 m_axi_bvalid_i,
  output logic                      m_axi_bready_o
);

  localparam int unsigned SlotW = $clog2(NumSlots);
  localparam int unsigned PidW = $clog2(PayloadIds);
  localparam int unsigned HiW = SlotW - PidW;

  if (PayloadIds + NumAux > 2 ** AxiIdW) begin : gen_id_check
    $error("axi_write: AxiIdW is too small for all clients");
  end

  // A burst whose data are to be sent.
  typedef struct packed {
    logic             aux;
    logic             wide;
    logic [LaneW-1:0] lane;
    logic [63:0]      data;
    logic [8:0]       beats;
  } order_t;

  logic [NumSlots-1:0] done_q;
  logic [NumSlots-1:0] err_q;
  logic [NumSlots-1:0] last_q;
  logic [SlotW:0]      head_q;
  logic [SlotW:0]      tail_q;
  logic                frame_err_q;
  logic                slot_free;
  assign slot_free = (tail_q - head_q) != (SlotW + 1)'(NumSlots);

  localparam int unsigned NumReq = NumAux + 1;
  localparam int unsigned ReqW = $clog2(NumReq);
  logic [NumReq-1:0] eligible;
  logic [ReqW-1:0]   pick;
  logic              pick_valid;
  assign eligible = {aux_valid_i, burst_valid_i && slot_free} & ~stop_i;
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

  small_write_t aux_pick;
  always_comb begin
    aux_pick = aux_i[0];
    for (int unsigned i = 0; i < NumAux; i++) if (gnt[i+1]) aux_pick = aux_i[i];
  end

  // AW register, with the order entry that goes to the FIFO at the handshake.
  logic   awvalid_q;
  order_t aw_order_q;
  logic   issue_payload;
  logic   order_ready;
  logic   aw_take;
  assign m_axi_awvalid_o = awvalid_q && order_ready;
  assign aw_take         = m_axi_awvalid_o && m_axi_awready_i;
  assign issue           = pick_valid && !hold_i && (!awvalid_q || aw_take);
  assign issue_payload   = issue && gnt[0];
  assign burst_ready_o   = issue_payload;
  assign aux_ready_o   = issue ? gnt[NumReq-1:1] : '0;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      awvalid_q <= 1'b0;
    end else if (issue) begin
      awvalid_q <= 1'b1;
    end else if (aw_take) begin
      awvalid_q <= 1'b0;
    end
  end

  always_ff @(posedge clk_i) begin
    if (issue) begin
      if (gnt[0]) begin
        m_axi_awid_o   <= AxiIdW'(tail_q[PidW-1:0]);
        m_axi_awaddr_o <= burst_addr_i;
        m_axi_awlen_o  <= 8'(burst_beats_i - 1'b1);
        aw_order_q     <= '{aux: 1'b0, wide: 1'b0, lane: '0, data: '0, beats: burst_beats_i};
      end else begin
        m_axi_awid_o   <= AxiIdW'(PayloadIds - 1) + AxiIdW'(pick);
        m_axi_awaddr_o <= aux_pick.addr;
        m_axi_awlen_o  <= '0;
        aw_order_q     <= '{aux: 1'b1, wide: aux_pick.wide, lane: aux_pick.addr[LaneW-1:0],
                            data: aux_pick.data, beats: 9'd1};
      end
    end
  end

  assign m_axi_awsize_o  = 3'(LaneW);
  assign m_axi_awburst_o = 2'b01;
  assign m_axi_awuser_o  = '0;

  order_t order;
  logic   order_valid;
  logic   order_pop;
  sync_fifo #(
    .Width($bits(order_t)),
    .Depth(4)
  ) u_order (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(aw_take),
    .in_ready_o(order_ready),
    .in_data_i(aw_order_q),
    .out_valid_o(order_valid),
    .out_ready_i(order_pop),
    .out_data_o(order),
    .count_o()
  );

  // W.
  logic [8:0] sent_q;
  assign m_axi_wvalid_o = order_valid && (order.aux || beat_valid_i);
  assign m_axi_wlast_o  = sent_q + 9'd1 == order.beats;
  assign m_axi_wdata_o  = order.aux ? {(Bytes / 8){order.data}} : beat_data_i;
  assign m_axi_wstrb_o  = order.aux
                          ? (Bytes'(order.wide ? 8'hff : 8'h0f) << order.lane) : beat_strb_i;
  assign beat_ready_o   = order_valid && !order.aux && m_axi_wready_i;
  assign order_pop      = m_axi_wvalid_o && m_axi_wready_i && m_axi_wlast_o;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) sent_q <= '0;
    else if (m_axi_wvalid_o && m_axi_wready_i) sent_q <= m_axi_wlast_o ? '0 : sent_q + 1'b1;
  end

  // B.
  logic             b_payload;
  logic             b_bad;
  logic [PidW-1:0]  b_pid;
  logic [HiW-1:0]   hi_q [PayloadIds];
  logic [SlotW-1:0] b_slot;
  logic             retire;
  assign b_bad     = m_axi_bresp_i inside {2'b10, 2'b11};   // SLVERR, DECERR
  assign b_payload = m_axi_bvalid_i && m_axi_bid_i < AxiIdW'(PayloadIds);
  assign b_pid     = m_axi_bid_i[PidW-1:0];
  assign b_slot    = {hi_q[b_pid], b_pid};
  assign m_axi_bready_o = 1'b1;
  assign error_o   = m_axi_bvalid_i && b_bad;
  assign aux_err_o = b_bad;
  always_comb begin
    aux_done_o = '0;
    for (int unsigned i = 0; i < NumAux; i++)
    aux_done_o[i] = m_axi_bvalid_i && m_axi_bid_i == AxiIdW'(PayloadIds + i);
  end

  assign retire       = head_q != tail_q && done_q[head_q[SlotW-1:0]];
  assign frame_done_o = retire && last_q[head_q[SlotW-1:0]];
  assign frame_err_o  = frame_err_q || err_q[head_q[SlotW-1:0]];

  logic [8:0] aux_flying_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      done_q       <= '0;
      err_q        <= '0;
      last_q       <= '0;
      head_q       <= '0;
      tail_q       <= '0;
      frame_err_q  <= 1'b0;
      aux_flying_q <= '0;
      for (int unsigned i = 0; i < PayloadIds; i++) hi_q[i] <= '0;
    end else begin
      if (issue_payload) begin
        tail_q <= tail_q + 1'b1;
        done_q[tail_q[SlotW-1:0]] <= 1'b0;
        last_q[tail_q[SlotW-1:0]] <= burst_last_i;
      end
      if (b_payload) begin
        hi_q[b_pid]    <= hi_q[b_pid] + 1'b1;
        done_q[b_slot] <= 1'b1;
        err_q[b_slot]  <= b_bad;
      end
      if (retire) begin
        head_q      <= head_q + 1'b1;
        frame_err_q <= !frame_done_o && frame_err_o;
      end else if (stop_i[0] && head_q == tail_q) begin
        // A reset cut the frame: its error must not be that of the next one.
        frame_err_q <= 1'b0;
      end
      aux_flying_q <= aux_flying_q + 9'(issue && !issue_payload) - 9'(m_axi_bvalid_i && !b_payload);
    end
  end

  assign payload_outstanding_o = head_q != tail_q;
  assign outstanding_o         = head_q != tail_q || aux_flying_q != '0;
  // Answers that came out of order are retired one a cycle, longer than the NIC lingers.
  assign want_o                = issue || retire;

  // Properties.
  logic        past_stalled_q;
  logic [63:0] past_addr_q;
  always_ff @(posedge clk_i) begin
    past_stalled_q <= rst_ni && m_axi_awvalid_o && !m_axi_awready_i;
    past_addr_q    <= m_axi_awaddr_o;
    if (rst_ni && past_stalled_q) begin
      assert (m_axi_awvalid_o && m_axi_awaddr_o == past_addr_q);
    end
    if (rst_ni) begin
      assert (!b_payload || head_q != tail_q);
      assert (!m_axi_awvalid_o
              || {52'd0, m_axi_awaddr_o[11:0] & 12'(~(Bytes - 1))}
                 + ((64'(m_axi_awlen_o) + 64'd1) << LaneW) <= 64'd4096);
    end
  end

endmodule

`default_nettype wire
