// The NIC: a virtio-net device between a PCIe core and a MAC.
//
// Ports and parameters are described in README.md; they are flat so that a simulator, a board shell and
// a synthesis tool all meet the same ones.

`default_nettype none

module tandem_nic
  import tandem_pkg::*;
#(
  parameter int unsigned DataW        = 512,
  parameter int unsigned QueuePairs   = 1,
  parameter int unsigned QueueSizeMax = 256,
  parameter int unsigned FrameLenMax  = 9234,
  parameter int unsigned MsixVectors  = 3,
  parameter int unsigned AxiIdW       = 4,
  parameter int unsigned FunctionW    = 8,
  // Station address; the first byte on the wire is the highest.
  parameter logic [47:0] Mac          = 48'h02_54_4e_44_4d_01,
  parameter logic [15:0] Mtu          = 16'd1500,
  localparam int unsigned KeepW       = DataW / 8
) (
  input  wire logic                 clk_i,
  input  wire logic                 rst_ni,

  input  wire logic [15:0]          s_axil_awaddr_i,
  input  wire logic                 s_axil_awvalid_i,
  output logic                      s_axil_awready_o,
  input  wire logic [31:0]          s_axil_wdata_i,
  input  wire logic [3:0]           s_axil_wstrb_i,
  input  wire logic                 s_axil_wvalid_i,
  output logic                      s_axil_wready_o,
  output logic [1:0]                s_axil_bresp_o,
  output logic                      s_axil_bvalid_o,
  input  wire logic                 s_axil_bready_i,
  input  wire logic [15:0]          s_axil_araddr_i,
  input  wire logic                 s_axil_arvalid_i,
  output logic                      s_axil_arready_o,
  output logic [31:0]               s_axil_rdata_o,
  output logic [1:0]                s_axil_rresp_o,
  output logic                      s_axil_rvalid_o,
  input  wire logic                 s_axil_rready_i,

  input  wire logic                 cfg_valid_i,
  input  wire logic                 cfg_write_i,
  input  wire logic [11:0]          cfg_addr_i,
  input  wire logic [3:0]           cfg_be_i,
  input  wire logic [31:0]          cfg_wdata_i,
  output logic                      cfg_ready_o,
  output logic [31:0]               cfg_rdata_o,

  input  wire logic                 bus_master_en_i,
  input  wire logic                 msix_en_i,
  input  wire logic                 msix_mask_i,
  input  wire logic                 flr_req_i,
  output logic                      flr_done_o,
  input  wire logic                 link_up_i,

  output logic [AxiIdW-1:0]         m_axi_awid_o,
  output logic [63:0]               m_axi_awaddr_o,
  output logic [7:0]                m_axi_awlen_o,
  output logic [2:0]                m_axi_awsize_o,
  output logic [1:0]                m_axi_awburst_o,
  output logic [FunctionW-1:0]      m_axi_awuser_o,
  output logic                      m_axi_awvalid_o,
  input  wire logic                 m_axi_awready_i,
  output logic [DataW-1:0]          m_axi_wdata_o,
  output logic [KeepW-1:0]          m_axi_wstrb_o,
  output logic                      m_axi_wlast_o,
  output logic                      m_axi_wvalid_o,
  input  wire logic                 m_axi_wready_i,
  input  wire logic [AxiIdW-1:0]    m_axi_bid_i,
  input  wire logic [1:0]           m_axi_bresp_i,
  input  wire logic                 m_axi_bvalid_i,
  output logic                      m_axi_bready_o,
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
  output logic                      m_axi_rready_o,

  output logic [DataW-1:0]          m_mac_tdata_o,
  output logic [KeepW-1:0]          m_mac_tkeep_o,
  output logic                      m_mac_tlast_o,
  output logic                      m_mac_tvalid_o,
  input  wire logic                 m_mac_tready_i,

  input  wire logic [DataW-1:0]     s_mac_tdata_i,
  input  wire logic [KeepW-1:0]     s_mac_tkeep_i,
  input  wire logic                 s_mac_tlast_i,
  input  wire logic                 s_mac_tvalid_i,
  input  wire logic                 s_mac_tuser_i,

  output logic                      trace_valid_o,
  output logic [127:0]              trace_word_o,

  output logic                      busy_o,
  output logic                      waiting_o
);

  // TIED OFF: the blocks behind these ports are being written.
  /* verilator lint_off UNUSEDSIGNAL */
  /* verilator lint_off UNUSEDPARAM */
  always_comb begin
    s_axil_awready_o = 1'b0; s_axil_wready_o = 1'b0; s_axil_bresp_o = '0; s_axil_bvalid_o = 1'b0;
    s_axil_arready_o = 1'b0; s_axil_rdata_o = '0; s_axil_rresp_o = '0; s_axil_rvalid_o = 1'b0;
    cfg_ready_o = cfg_valid_i; cfg_rdata_o = '0; flr_done_o = flr_req_i;
    m_axi_awid_o = '0; m_axi_awaddr_o = '0; m_axi_awlen_o = '0; m_axi_awsize_o = '0;
    m_axi_awburst_o = '0; m_axi_awuser_o = '0; m_axi_awvalid_o = 1'b0; m_axi_wdata_o = '0;
    m_axi_wstrb_o = '0; m_axi_wlast_o = 1'b0; m_axi_wvalid_o = 1'b0; m_axi_bready_o = 1'b1;
    m_axi_arid_o = '0; m_axi_araddr_o = '0; m_axi_arlen_o = '0; m_axi_arsize_o = '0;
    m_axi_arburst_o = '0; m_axi_aruser_o = '0; m_axi_arvalid_o = 1'b0; m_axi_rready_o = 1'b1;
    m_mac_tdata_o = '0; m_mac_tkeep_o = '0; m_mac_tlast_o = 1'b0; m_mac_tvalid_o = 1'b0;
    trace_valid_o = 1'b0; trace_word_o = '0; busy_o = 1'b0; waiting_o = 1'b0;
  end

endmodule

`default_nettype wire
