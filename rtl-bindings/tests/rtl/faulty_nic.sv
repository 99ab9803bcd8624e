// A bus master that breaks the rules: one rule for each value of `bug_i`, none for 0.
//
// It has the ports of `tandem_nic`. A write to its BAR starts one round: a write burst of three beats
// at 0x1_0000_0003, a read of two beats at 0x1_0000_0045, a frame of 20 bytes. Only the tests of the
// bindings use it.

`default_nettype none

module faulty_nic #(
  parameter int unsigned DataW = 64,
  localparam int unsigned KeepW = DataW / 8
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic [7:0]       bug_i,

  input  wire logic [15:0]      s_axil_awaddr_i,
  input  wire logic             s_axil_awvalid_i,
  output logic                  s_axil_awready_o,
  input  wire logic [31:0]      s_axil_wdata_i,
  input  wire logic [3:0]       s_axil_wstrb_i,
  input  wire logic             s_axil_wvalid_i,
  output logic                  s_axil_wready_o,
  output logic [1:0]            s_axil_bresp_o,
  output logic                  s_axil_bvalid_o,
  input  wire logic             s_axil_bready_i,
  input  wire logic [15:0]      s_axil_araddr_i,
  input  wire logic             s_axil_arvalid_i,
  output logic                  s_axil_arready_o,
  output logic [31:0]           s_axil_rdata_o,
  output logic [1:0]            s_axil_rresp_o,
  output logic                  s_axil_rvalid_o,
  input  wire logic             s_axil_rready_i,

  input  wire logic             cfg_valid_i,
  input  wire logic             cfg_write_i,
  input  wire logic [11:0]      cfg_addr_i,
  input  wire logic [3:0]       cfg_be_i,
  input  wire logic [31:0]      cfg_wdata_i,
  output logic                  cfg_ready_o,
  output logic [31:0]           cfg_rdata_o,

  input  wire logic             bus_master_en_i,
  input  wire logic             msix_en_i,
  input  wire logic             msix_mask_i,
  input  wire logic             flr_req_i,
  output logic                  flr_done_o,
  input  wire logic             link_up_i,

  output logic [3:0]            m_axi_awid_o,
  output logic [63:0]           m_axi_awaddr_o,
  output logic [7:0]            m_axi_awlen_o,
  output logic [2:0]            m_axi_awsize_o,
  output logic [1:0]            m_axi_awburst_o,
  output logic [7:0]            m_axi_awuser_o,
  output logic                  m_axi_awvalid_o,
  input  wire logic             m_axi_awready_i,
  output logic [DataW-1:0]      m_axi_wdata_o,
  output logic [KeepW-1:0]      m_axi_wstrb_o,
  output logic                  m_axi_wlast_o,
  output logic                  m_axi_wvalid_o,
  input  wire logic             m_axi_wready_i,
  input  wire logic [3:0]       m_axi_bid_i,
  input  wire logic [1:0]       m_axi_bresp_i,
  input  wire logic             m_axi_bvalid_i,
  output logic                  m_axi_bready_o,
  output logic [3:0]            m_axi_arid_o,
  output logic [63:0]           m_axi_araddr_o,
  output logic [7:0]            m_axi_arlen_o,
  output logic [2:0]            m_axi_arsize_o,
  output logic [1:0]            m_axi_arburst_o,
  output logic [7:0]            m_axi_aruser_o,
  output logic                  m_axi_arvalid_o,
  input  wire logic             m_axi_arready_i,
  input  wire logic [3:0]       m_axi_rid_i,
  input  wire logic [DataW-1:0] m_axi_rdata_i,
  input  wire logic [1:0]       m_axi_rresp_i,
  input  wire logic             m_axi_rlast_i,
  input  wire logic             m_axi_rvalid_i,
  output logic                  m_axi_rready_o,

  output logic [DataW-1:0]      m_mac_tdata_o,
  output logic [KeepW-1:0]      m_mac_tkeep_o,
  output logic                  m_mac_tlast_o,
  output logic                  m_mac_tvalid_o,
  input  wire logic             m_mac_tready_i,

  input  wire logic [DataW-1:0] s_mac_tdata_i,
  input  wire logic [KeepW-1:0] s_mac_tkeep_i,
  input  wire logic             s_mac_tlast_i,
  input  wire logic             s_mac_tvalid_i,
  input  wire logic             s_mac_tuser_i,

  output logic                  trace_valid_o,
  output logic [127:0]          trace_word_o,

  output logic                  busy_o,
  output logic                  waiting_o
);

  typedef enum logic [2:0] {
    StIdle, StAw, StW, StB, StAr, StR, StMac
  } state_e;

  localparam logic [7:0] BugCross4k    = 8'd1;
  localparam logic [7:0] BugLastEarly  = 8'd2;
  localparam logic [7:0] BugLastNever  = 8'd3;
  localparam logic [7:0] BugAddrMoves  = 8'd4;
  localparam logic [7:0] BugWithdraw   = 8'd5;
  localparam logic [7:0] BugNarrow     = 8'd6;
  localparam logic [7:0] BugStrobeLow  = 8'd7;
  localparam logic [7:0] BugMacGap     = 8'd8;
  localparam logic [7:0] BugKeepHole   = 8'd9;
  localparam logic [7:0] BugTraceKind  = 8'd10;
  localparam logic [7:0] BugAssert     = 8'd11;
  localparam logic [7:0] BugBusy       = 8'd12;
  localparam logic [7:0] BugWaiting    = 8'd13;
  localparam logic [7:0] BugNoAnswer   = 8'd14;
  localparam logic [7:0] BugNoReset    = 8'd15;
  localparam logic [7:0] BugReadCross  = 8'd16;
  localparam logic [7:0] BugReadCount  = 8'd17;

  state_e      state_q;
  logic [8:0]  beat_q;
  logic        toggle_q;
  logic        b_q;
  logic        r_q;
  logic [31:0] rounds_q;
  logic [63:0] first_q;
  logic        start;

  assign start = s_axil_awvalid_i && s_axil_wvalid_i && !b_q;

  always_ff @(posedge clk_i) begin
    toggle_q <= !toggle_q;
    if (start) b_q <= 1'b1;
    else if (s_axil_bready_i) b_q <= 1'b0;
    if (s_axil_arvalid_i && !r_q && bug_i != BugNoAnswer) r_q <= 1'b1;
    else if (s_axil_rready_i) r_q <= 1'b0;
    unique case (state_q)
      StIdle: if (start) state_q <= StAw;
      StAw: if (m_axi_awvalid_o && m_axi_awready_i) begin
        state_q <= StW;
        beat_q  <= '0;
      end
      StW: if (m_axi_wvalid_o && m_axi_wready_i) begin
        beat_q <= beat_q + 9'd1;
        if (m_axi_wlast_o) state_q <= StB;
      end
      StB: if (m_axi_bvalid_i) state_q <= StAr;
      StAr: if (m_axi_arready_i) begin
        state_q <= StR;
        beat_q  <= '0;
      end
      StR: if (m_axi_rvalid_i) begin
        beat_q <= beat_q + 9'd1;
        if (beat_q == '0) first_q <= 64'(m_axi_rdata_i);
        if (m_axi_rlast_i) begin
          state_q <= StMac;
          beat_q  <= '0;
        end
      end
      StMac: if (m_mac_tvalid_o && m_mac_tready_i) begin
        beat_q <= beat_q + 9'd1;
        if (m_mac_tlast_o) begin
          state_q  <= StIdle;
          rounds_q <= rounds_q + 32'd1;
        end
      end
      default: state_q <= StIdle;
    endcase
    if (!rst_ni) begin
      state_q  <= StIdle;
      beat_q   <= '0;
      toggle_q <= 1'b0;
      b_q      <= 1'b0;
      r_q      <= 1'b0;
      rounds_q <= '0;
    end
  end

  always_comb begin
    s_axil_awready_o = start;
    s_axil_wready_o  = start;
    s_axil_bresp_o   = '0;
    s_axil_bvalid_o  = b_q;
    s_axil_arready_o = !r_q && bug_i != BugNoAnswer;
    s_axil_rdata_o   = s_axil_araddr_i[15:2] == '0 ? rounds_q : first_q[31:0];
    s_axil_rresp_o   = '0;
    s_axil_rvalid_o  = r_q;
    cfg_ready_o      = cfg_valid_i;
    cfg_rdata_o      = {20'h0, cfg_addr_i};
    flr_done_o       = flr_req_i && bug_i != BugNoReset;

    m_axi_awid_o    = 4'd1;
    m_axi_awaddr_o  = 64'h1_0000_0003;
    if (bug_i == BugCross4k) m_axi_awaddr_o = 64'h1_0000_0FF3;
    if (bug_i == BugAddrMoves) m_axi_awaddr_o[12] = toggle_q;
    m_axi_awlen_o   = bug_i == BugLastNever ? 8'd255 : 8'd2;
    m_axi_awsize_o  = 3'($clog2(KeepW));
    m_axi_awburst_o = 2'd1;
    m_axi_awuser_o  = '0;
    m_axi_awvalid_o = state_q == StAw && !(bug_i == BugWithdraw && toggle_q);

    m_axi_wdata_o  = DataW'(64'hA0A1_A2A3_A4A5_A600 + 64'(beat_q));
    m_axi_wstrb_o  = '1;
    if (beat_q == '0 && bug_i != BugStrobeLow) m_axi_wstrb_o[2:0] = '0;
    if (beat_q == 9'd2) m_axi_wstrb_o[KeepW-1:1] = '0;
    m_axi_wlast_o  = beat_q == (bug_i == BugLastEarly ? 9'd1 : 9'd2) && bug_i != BugLastNever;
    m_axi_wvalid_o = state_q == StW;
    m_axi_bready_o = state_q == StB;

    m_axi_arid_o    = 4'd2;
    m_axi_araddr_o  = bug_i == BugReadCross ? 64'h1_0000_0FFD : 64'h1_0000_0045;
    m_axi_arlen_o   = 8'd1;
    m_axi_arsize_o  = bug_i == BugNarrow ? 3'd0 : 3'($clog2(KeepW));
    m_axi_arburst_o = bug_i == BugReadCount ? 2'd0 : 2'd1;
    m_axi_aruser_o  = '0;
    m_axi_arvalid_o = state_q == StAr;
    m_axi_rready_o  = state_q == StR;

    m_mac_tdata_o  = DataW'(first_q);
    m_mac_tlast_o  = beat_q == 9'd2;
    m_mac_tkeep_o  = '1;
    if (beat_q == 9'd2) m_mac_tkeep_o[KeepW-1:4] = '0;
    if (bug_i == BugKeepHole) m_mac_tkeep_o[1] = 1'b0;
    m_mac_tvalid_o = state_q == StMac && !(bug_i == BugMacGap && beat_q == 9'd1);

    trace_valid_o = state_q == StMac && m_mac_tvalid_o && m_mac_tready_i && m_mac_tlast_o;
    trace_word_o  = 128'h14_0000_0000_0000_0002;
    if (bug_i == BugTraceKind) trace_word_o[7:0] = 8'hEE;

    busy_o    = state_q != StIdle && state_q != StB && state_q != StR;
    waiting_o = state_q == StB || state_q == StR;
    if (bug_i == BugBusy) busy_o = 1'b1;
    if (bug_i == BugWaiting) waiting_o = 1'b1;
  end

  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      NoAssertBug: assert (!(bug_i == BugAssert && state_q == StMac));
    end
  end

endmodule

`default_nettype wire
