// The NIC: a virtio-net device between a PCIe core and a MAC.
//
//   BAR, PCI_CFG > nic_bar > nic_regs, msix, nic_trace             nic_reset: stop, drain, clear
//
//   RX  MAC > rx_path > rx_place > rx_write > axi_write > vq_used > msix
//                          ^ chains
//   both            vq_front < axi_read (descriptors)
//                          v chains
//   TX  tx_engine > axi_read > tx_pack > tx_checksum > MAC;  tx_engine > vq_used > msix
//
// Ports and parameters are described in README.md; they are flat so that a simulator, a board
// shell and a synthesis tool all meet the same ones.

`default_nettype none

module tandem_nic
  import tandem_pkg::*;
  import tandem_stream_pkg::*;
  import tandem_nic_pkg::*;
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

  localparam int unsigned NumQueues = 2 * QueuePairs;
  localparam int unsigned NumCauses = NumQueues + 1;
  localparam int unsigned LaneW = $clog2(KeepW);
  localparam int unsigned FramesMax = 32;
  localparam int unsigned RxQ = 0;  // receiveq1 (virtio 1.3, 5.1.2)
  localparam int unsigned TxQ = 1;  // transmitq1
  // Room for read data: at least the bytes of a round trip, and narrow beats need more of them,
  // because a burst stays until it is whole.
  localparam int unsigned RobBeats = (DataW <= 128) ? 1024 : 512;
  // Length of the virtio-net header; 12 bytes until HASH_REPORT comes.
  localparam logic [7:0] HdrLen = 8'd12;

  if (!(DataW inside {64, 128, 256, 512})) begin : gen_data_check
    $error("tandem_nic: DataW must be 64, 128, 256 or 512");
  end
  if (QueuePairs != 1) begin : gen_pairs_check
    $error("tandem_nic: more than one queue pair waits for the control queue");
  end
  if (QueueSizeMax < 2 || QueueSizeMax > 32768) begin : gen_size_check
    $error("tandem_nic: QueueSizeMax must be 2 to 32768");
  end
  if (FrameLenMax < 1518 || FrameLenMax > 16384) begin : gen_frame_check
    $error("tandem_nic: FrameLenMax must be 1518 to 16384");
  end

  // Resets.
  logic                 stop;
  logic [NumQueues-1:0] stop_queue;
  logic [NumQueues-1:0] mute_queue;
  logic                 clear;
  logic [NumQueues-1:0] clear_queue;
  logic                 dev_reset;
  logic                 dev_reset_done;
  logic [NumQueues-1:0] queue_reset;
  logic [NumQueues-1:0] queue_reset_done;
  logic                 rst_rx_n;
  logic                 rst_tx_n;
  logic                 rst_function_n;
  assign rst_rx_n       = rst_ni && !clear_queue[RxQ];
  assign rst_tx_n       = rst_ni && !clear_queue[TxQ];
  assign rst_function_n = rst_ni && !flr_done_o;

  // Trace sources.
  typedef enum logic [3:0] {
    SrcRxFront,
    SrcTxFront,
    SrcTx,
    SrcRxDrop,
    SrcRx,
    SrcRxUsed,
    SrcTxUsed,
    SrcIrq,
    SrcReset,
    SrcEnd
  } source_e;
  localparam int unsigned NumSources = int'(SrcEnd);
  logic [NumSources-1:0] src_valid;
  logic [NumSources-1:0] src_mute;
  logic [NumSources-1:0] src_ready;
  trace_event_t          src_event [NumSources];
  always_comb begin
    src_mute             = '0;
    src_mute[SrcRxFront] = mute_queue[RxQ];
    src_mute[SrcRxDrop]  = mute_queue[RxQ];
    src_mute[SrcRx]      = mute_queue[RxQ];
    src_mute[SrcRxUsed]  = mute_queue[RxQ];
    src_mute[SrcTxFront] = mute_queue[TxQ];
    src_mute[SrcTx]      = mute_queue[TxQ];
    src_mute[SrcTxUsed]  = mute_queue[TxQ];
    src_mute[SrcIrq]     = &mute_queue;
  end

  // Register bus.
  logic        bus_valid;
  logic        bus_write;
  logic [15:2] bus_addr;
  logic [3:0]  bus_be;
  logic [31:0] bus_wdata;
  logic [31:0] bus_rdata;
  logic        bar_busy;
  logic        cfg_busy;
  logic        win_valid;
  logic        win_write;
  logic [15:2] win_addr;
  logic [3:0]  win_be;
  logic [31:0] win_wdata;
  logic        win_done;
  logic [31:0] win_rdata;

  nic_bar u_bar (
    .clk_i,
    .rst_ni,
    .s_axil_awaddr_i,
    .s_axil_awvalid_i,
    .s_axil_awready_o,
    .s_axil_wdata_i,
    .s_axil_wstrb_i,
    .s_axil_wvalid_i,
    .s_axil_wready_o,
    .s_axil_bresp_o,
    .s_axil_bvalid_o,
    .s_axil_bready_i,
    .s_axil_araddr_i,
    .s_axil_arvalid_i,
    .s_axil_arready_o,
    .s_axil_rdata_o,
    .s_axil_rresp_o,
    .s_axil_rvalid_o,
    .s_axil_rready_i,
    .win_valid_i(win_valid),
    .win_write_i(win_write),
    .win_addr_i(win_addr),
    .win_be_i(win_be),
    .win_wdata_i(win_wdata),
    .win_done_o(win_done),
    .win_rdata_o(win_rdata),
    .bus_valid_o(bus_valid),
    .bus_write_o(bus_write),
    .bus_addr_o(bus_addr),
    .bus_be_o(bus_be),
    .bus_wdata_o(bus_wdata),
    .bus_rdata_i(bus_rdata),
    .busy_o(bar_busy)
  );

  nic_cfg #(
    .NumQueues(NumQueues)
  ) u_cfg (
    .clk_i,
    .rst_ni(rst_function_n),
    .cfg_valid_i,
    .cfg_write_i,
    .cfg_addr_i,
    .cfg_be_i,
    .cfg_wdata_i,
    .cfg_ready_o,
    .cfg_rdata_o,
    .win_valid_o(win_valid),
    .win_write_o(win_write),
    .win_addr_o(win_addr),
    .win_be_o(win_be),
    .win_wdata_o(win_wdata),
    .win_done_i(win_done),
    .win_rdata_i(win_rdata),
    .busy_o(cfg_busy)
  );

  queue_cfg_t           queue [NumQueues];
  logic [NumQueues-1:0] active;
  logic [NumQueues-1:0] kick;
  logic [63:0]          features;
  logic [NumQueues-1:0] broken;
  logic                 cfg_change;
  logic [15:0]          vector [NumCauses];
  logic                 isr_read;
  logic [1:0]           isr;
  logic [31:0]          regs_rdata;
  nic_regs #(
    .QueuePairs(QueuePairs),
    .QueueSizeMax(QueueSizeMax),
    .MsixVectors(MsixVectors),
    .Mac(Mac),
    .Mtu(Mtu)
  ) u_regs (
    .clk_i,
    .rst_ni,
    .flr_i(flr_done_o),
    .link_up_i,
    .bus_valid_i(bus_valid),
    .bus_write_i(bus_write),
    .bus_addr_i(bus_addr),
    .bus_be_i(bus_be),
    .bus_wdata_i(bus_wdata),
    .bus_rdata_o(regs_rdata),
    .queue_o(queue),
    .active_o(active),
    .kick_o(kick),
    .features_o(features),
    .broken_i(broken),
    .dev_reset_o(dev_reset),
    .dev_reset_done_i(dev_reset_done),
    .queue_reset_o(queue_reset),
    .queue_reset_done_i(queue_reset_done),
    .cfg_change_o(cfg_change),
    .vector_o(vector),
    .isr_read_o(isr_read),
    .isr_i(isr)
  );

  logic event_idx;
  assign event_idx = features[FeatEventIdx];
  logic unused_features;
  assign unused_features = ^features;

  logic [NumCauses-1:0] cause;
  logic [NumQueues-1:0] irq;
  logic [31:0]          table_rdata;
  logic [31:0]          pba_rdata;
  logic                 msix_outstanding;
  logic                 msix_moving;
  assign cause = {cfg_change, irq};

  // Small clients of the AXI masters: first one of each kind a queue, the messages last.
  localparam int unsigned NumRdAux = 2 * NumQueues;
  localparam int unsigned NumWrAux = 2 * NumQueues + 1;
  localparam int unsigned AuxMsix = 2 * NumQueues;
  logic [NumRdAux-1:0] ra_valid;
  logic [NumRdAux-1:0] ra_ready;
  small_read_t         ra [NumRdAux];
  logic [NumRdAux-1:0] ra_beat;
  logic [DataW-1:0]    ra_data;
  logic                ra_last;
  logic                ra_err;
  logic [NumWrAux-1:0] wa_valid;
  logic [NumWrAux-1:0] wa_ready;
  small_write_t        wa [NumWrAux];
  logic [NumWrAux-1:0] wa_done;
  logic                wa_err;

  msix #(
    .MsixVectors(MsixVectors),
    .NumQueues(NumQueues)
  ) u_msix (
    .clk_i,
    .rst_ni(rst_function_n),
    .clear_i(clear),
    .en_i(msix_en_i),
    .mask_i(msix_mask_i),
    .cause_i(cause),
    .vector_i(vector),
    .bus_write_i(bus_valid && bus_write && bus_addr[15:12] == MsixTableBase[15:12]),
    .bus_addr_i(bus_addr[11:2]),
    .bus_wdata_i(bus_wdata),
    .bus_be_i(bus_be),
    .table_rdata_o(table_rdata),
    .pba_rdata_o(pba_rdata),
    .isr_read_i(isr_read),
    .isr_o(isr),
    .wr_valid_o(wa_valid[AuxMsix]),
    .wr_ready_i(wa_ready[AuxMsix]),
    .wr_o(wa[AuxMsix]),
    .wr_done_i(wa_done[AuxMsix]),
    .trace_valid_o(src_valid[SrcIrq]),
    .trace_ready_i(src_ready[SrcIrq]),
    .trace_o(src_event[SrcIrq]),
    .outstanding_o(msix_outstanding),
    .moving_o(msix_moving)
  );

  // Fronts and backs of the queues.
  logic [NumQueues-1:0] seg_valid;
  logic [NumQueues-1:0] seg_ready;
  seg_t                 seg [NumQueues];
  logic [NumQueues-1:0] chain_valid;
  logic [NumQueues-1:0] chain_ready;
  chain_t               chain [NumQueues];
  logic [NumQueues-1:0] starved;
  logic [47:0]          chain_bytes [NumQueues];
  logic [NumQueues-1:0] used_valid;
  logic [NumQueues-1:0] used_ready;
  used_t                used [NumQueues];
  logic [NumQueues-1:0] front_broken;
  logic [NumQueues-1:0] used_broken;
  logic [NumQueues-1:0] front_outstanding;
  logic [NumQueues-1:0] used_outstanding;
  logic [NumQueues-1:0] front_moving;
  logic [NumQueues-1:0] used_moving;

  for (genvar q = 0; q < NumQueues; q++) begin : gen_queue
    localparam bit Rx = (q % 2) == 0;
    localparam int unsigned Front = Rx ? int'(SrcRxFront) : int'(SrcTxFront);
    localparam int unsigned Back = Rx ? int'(SrcRxUsed) : int'(SrcTxUsed);
    logic        rst_queue_n;
    logic        freed;
    logic [15:0] freed_count;
    assign rst_queue_n = rst_ni && !clear_queue[q];

    vq_front #(
      .DataW(DataW),
      .QueueSizeMax(QueueSizeMax),
      .FrameLenMax(FrameLenMax),
      .Rx(Rx),
      .QueueIdx(8'(q))
    ) u_front (
      .clk_i,
      .rst_ni(rst_queue_n),
      .active_i(active[q] && !stop_queue[q]),
      .desc_i(queue[q].desc[63:4]),
      .area_i(queue[q].device[63:2]),
      .size_i(queue[q].size),
      .event_idx_i(event_idx),
      .hdr_len_i(HdrLen),
      .kick_i(kick[q]),
      .rd_valid_o(ra_valid[q]),
      .rd_ready_i(ra_ready[q]),
      .rd_o(ra[q]),
      .rd_beat_i(ra_beat[q]),
      .rd_data_i(ra_data),
      .rd_last_i(ra_last),
      .rd_err_i(ra_err),
      .ev_valid_o(wa_valid[NumQueues + q]),
      .ev_ready_i(wa_ready[NumQueues + q]),
      .ev_o(wa[NumQueues + q]),
      .ev_done_i(wa_done[NumQueues + q]),
      .ev_err_i(wa_err),
      .seg_valid_o(seg_valid[q]),
      .seg_ready_i(seg_ready[q]),
      .seg_o(seg[q]),
      .chain_valid_o(chain_valid[q]),
      .chain_ready_i(chain_ready[q]),
      .chain_o(chain[q]),
      .freed_i(freed),
      .freed_count_i(freed_count),
      .starved_o(starved[q]),
      .bytes_o(chain_bytes[q]),
      .trace_valid_o(src_valid[Front]),
      .trace_ready_i(src_ready[Front]),
      .trace_o(src_event[Front]),
      .broken_o(front_broken[q]),
      .outstanding_o(front_outstanding[q]),
      .moving_o(front_moving[q])
    );

    vq_used #(
      .DataW(DataW),
      .Rx(Rx),
      .QueueIdx(8'(q)),
      .Pending(FramesMax)
    ) u_used (
      .clk_i,
      .rst_ni(rst_queue_n),
      .desc_i(queue[q].desc[63:4]),
      .area_i(queue[q].driver[63:2]),
      .size_i(queue[q].size),
      .event_idx_i(event_idx),
      .used_valid_i(used_valid[q]),
      .used_ready_o(used_ready[q]),
      .used_i(used[q]),
      .wr_valid_o(wa_valid[q]),
      .wr_ready_i(wa_ready[q]),
      .wr_o(wa[q]),
      .wr_done_i(wa_done[q]),
      .wr_err_i(wa_err),
      .rd_valid_o(ra_valid[NumQueues + q]),
      .rd_ready_i(ra_ready[NumQueues + q]),
      .rd_o(ra[NumQueues + q]),
      .rd_beat_i(ra_beat[NumQueues + q]),
      .rd_data_i(ra_data),
      .rd_err_i(ra_err),
      .freed_o(freed),
      .freed_count_o(freed_count),
      .irq_o(irq[q]),
      .trace_valid_o(src_valid[Back]),
      .trace_ready_i(src_ready[Back]),
      .trace_o(src_event[Back]),
      .broken_o(used_broken[q]),
      .outstanding_o(used_outstanding[q]),
      .moving_o(used_moving[q])
    );
  end
  logic unused_tx_front;
  assign unused_tx_front = ^{starved[TxQ], chain_bytes[TxQ]};

  // Transmit.
  logic             tx_rd_valid;
  logic             tx_rd_ready;
  seg_t             tx_rd;
  logic             tx_rd_last;
  logic             pay_valid;
  logic             pay_ready;
  logic [DataW-1:0] pay_data;
  logic [LaneW-1:0] pay_lane;
  logic [LaneW:0]   pay_count;
  logic             pay_last;
  logic             pay_err;
  logic             txs_valid;
  logic             txs_ready;
  logic [DataW-1:0] txs_data;
  logic [KeepW-1:0] txs_keep;
  logic             txs_last;
  logic             txs_abort;
  csum_req_t        txs_req;
  logic             tx_done_valid;
  tx_done_t         tx_done;
  logic             tx_broken;
  logic             tx_moving;
  tx_engine #(
    .DataW(DataW),
    .FramesMax(FramesMax),
    .QueueIdx(8'(TxQ))
  ) u_tx (
    .clk_i,
    .rst_ni(rst_tx_n),
    .csum_ok_i(features[FeatCsum]),
    .hdr_len_i(HdrLen),
    .chain_valid_i(chain_valid[TxQ]),
    .chain_ready_o(chain_ready[TxQ]),
    .chain_i(chain[TxQ]),
    .seg_valid_i(seg_valid[TxQ]),
    .seg_ready_o(seg_ready[TxQ]),
    .seg_i(seg[TxQ]),
    .rd_valid_o(tx_rd_valid),
    .rd_ready_i(tx_rd_ready),
    .rd_o(tx_rd),
    .rd_last_o(tx_rd_last),
    .in_valid_i(pay_valid),
    .in_ready_o(pay_ready),
    .in_data_i(pay_data),
    .in_lane_i(pay_lane),
    .in_count_i(pay_count),
    .in_last_i(pay_last),
    .in_err_i(pay_err),
    .out_valid_o(txs_valid),
    .out_ready_i(txs_ready),
    .out_data_o(txs_data),
    .out_keep_o(txs_keep),
    .out_last_o(txs_last),
    .out_abort_o(txs_abort),
    .out_req_o(txs_req),
    .done_valid_i(tx_done_valid),
    .done_i(tx_done),
    .used_valid_o(used_valid[TxQ]),
    .used_ready_i(used_ready[TxQ]),
    .used_o(used[TxQ]),
    .trace_valid_o(src_valid[SrcTx]),
    .trace_ready_i(src_ready[SrcTx]),
    .trace_o(src_event[SrcTx]),
    .broken_o(tx_broken),
    .moving_o(tx_moving)
  );

  logic mac_valid;
  logic mac_ready;
  logic tx_busy;
  tx_checksum #(
    .DataW(DataW),
    .FrameLenMax(FrameLenMax),
    .FramesMax(FramesMax)
  ) u_tx_checksum (
    .clk_i,
    .rst_ni(rst_tx_n),
    .in_valid_i(txs_valid),
    .in_ready_o(txs_ready),
    .in_data_i(txs_data),
    .in_keep_i(txs_keep),
    .in_last_i(txs_last),
    .in_abort_i(txs_abort),
    .in_req_i(txs_req),
    .out_valid_o(mac_valid),
    .out_ready_i(mac_ready),
    .out_data_o(m_mac_tdata_o),
    .out_keep_o(m_mac_tkeep_o),
    .out_last_o(m_mac_tlast_o),
    .done_valid_o(tx_done_valid),
    .done_o(tx_done),
    .busy_o(tx_busy)
  );

  // A frame that was shown to the MAC is finished before a reset; no other is begun.
  logic mac_mid_q;
  logic mac_shut;
  assign mac_shut       = stop_queue[TxQ] && !mac_mid_q;
  assign m_mac_tvalid_o = mac_valid && !mac_shut;
  assign mac_ready      = m_mac_tready_i && !mac_shut;
  always_ff @(posedge clk_i) begin
    if (!rst_tx_n) mac_mid_q <= 1'b0;
    else if (m_mac_tvalid_o) mac_mid_q <= !(m_mac_tready_i && m_mac_tlast_o);
  end

  // Receive.
  logic             meta_valid;
  logic             meta_ready;
  rx_meta_t         meta;
  logic             rxs_valid;
  logic             rxs_ready;
  logic [DataW-1:0] rxs_data;
  logic [KeepW-1:0] rxs_keep;
  logic             rxs_last;
  logic             rx_event_valid;
  rx_event_t        rx_event;
  logic             rx_busy;
  rx_path #(
    .DataW(DataW),
    .FrameLenMax(FrameLenMax)
  ) u_rx_path (
    .clk_i,
    .rst_ni,
    .flush_i(clear_queue[RxQ]),
    .accept_i(active[RxQ] && !stop_queue[RxQ]),
    .mac_i(Mac),
    .mac_valid_i(s_mac_tvalid_i),
    .mac_data_i(s_mac_tdata_i),
    .mac_keep_i(s_mac_tkeep_i),
    .mac_last_i(s_mac_tlast_i),
    .mac_error_i(s_mac_tuser_i),
    .meta_valid_o(meta_valid),
    .meta_ready_i(meta_ready),
    .meta_o(meta),
    .out_valid_o(rxs_valid),
    .out_ready_i(rxs_ready),
    .out_data_o(rxs_data),
    .out_keep_o(rxs_keep),
    .out_last_o(rxs_last),
    .event_valid_o(rx_event_valid),
    .event_o(rx_event),
    .busy_o(rx_busy)
  );
  // The length says which lanes of the last beat count.
  logic unused_keep;
  assign unused_keep = ^rxs_keep;

  logic        plan_valid;
  logic        plan_ready;
  logic        plan_drop;
  logic [16:0] plan_len;
  logic [15:0] plan_descs;
  logic [95:0] plan_hdr;
  logic        frame_done;
  logic        frame_err;
  logic        rx_broken;
  logic        place_moving;
  rx_place #(
    .QueueSizeMax(QueueSizeMax),
    .FramesMax(FramesMax),
    .QueueIdx(8'(RxQ))
  ) u_rx_place (
    .clk_i,
    .rst_ni(rst_rx_n),
    .ready_i(active[RxQ]),
    .stop_i(stop_queue[RxQ]),
    .mrg_i(features[FeatMrgRxbuf]),
    .guest_csum_i(features[FeatGuestCsum]),
    .hdr_len_i(HdrLen),
    .meta_valid_i(meta_valid),
    .meta_ready_o(meta_ready),
    .meta_i(meta),
    .chain_valid_i(chain_valid[RxQ]),
    .chain_ready_o(chain_ready[RxQ]),
    .chain_i(chain[RxQ]),
    .bytes_i(chain_bytes[RxQ]),
    .starved_i(starved[RxQ]),
    .plan_valid_o(plan_valid),
    .plan_ready_i(plan_ready),
    .plan_drop_o(plan_drop),
    .plan_len_o(plan_len),
    .plan_descs_o(plan_descs),
    .plan_hdr_o(plan_hdr),
    .frame_done_i(frame_done),
    .frame_err_i(frame_err),
    .used_valid_o(used_valid[RxQ]),
    .used_ready_i(used_ready[RxQ]),
    .used_o(used[RxQ]),
    .drop_trace_valid_o(src_valid[SrcRxDrop]),
    .drop_trace_ready_i(src_ready[SrcRxDrop]),
    .drop_trace_o(src_event[SrcRxDrop]),
    .trace_valid_o(src_valid[SrcRx]),
    .trace_ready_i(src_ready[SrcRx]),
    .trace_o(src_event[SrcRx]),
    .broken_o(rx_broken),
    .moving_o(place_moving)
  );

  logic             burst_valid;
  logic             burst_ready;
  logic [63:0]      burst_addr;
  logic [8:0]       burst_beats;
  logic             burst_last;
  logic             beat_valid;
  logic             beat_ready;
  logic [DataW-1:0] beat_data;
  logic [KeepW-1:0] beat_strb;
  logic             write_moving;
  rx_write #(
    .DataW(DataW)
  ) u_rx_write (
    .clk_i,
    .rst_ni(rst_rx_n),
    .hdr_len_i(HdrLen),
    .plan_valid_i(plan_valid),
    .plan_ready_o(plan_ready),
    .plan_drop_i(plan_drop),
    .plan_len_i(plan_len),
    .plan_descs_i(plan_descs),
    .plan_hdr_i(plan_hdr),
    .seg_valid_i(seg_valid[RxQ]),
    .seg_ready_o(seg_ready[RxQ]),
    .seg_i(seg[RxQ]),
    .in_valid_i(rxs_valid),
    .in_ready_o(rxs_ready),
    .in_data_i(rxs_data),
    .in_last_i(rxs_last),
    .burst_valid_o(burst_valid),
    .burst_ready_i(burst_ready),
    .burst_addr_o(burst_addr),
    .burst_beats_o(burst_beats),
    .burst_last_o(burst_last),
    .beat_valid_o(beat_valid),
    .beat_ready_i(beat_ready),
    .beat_data_o(beat_data),
    .beat_strb_o(beat_strb),
    .moving_o(write_moving)
  );

  // Bus masters.
  logic read_payload_outstanding;
  logic read_outstanding;
  logic read_want;
  logic read_error;
  axi_read #(
    .DataW(DataW),
    .AxiIdW(AxiIdW),
    .FunctionW(FunctionW),
    .NumAux(NumRdAux),
    .RobBeats(RobBeats)
  ) u_axi_read (
    .clk_i,
    .rst_ni,
    .payload_clear_i(clear_queue[TxQ]),
    .hold_i(!bus_master_en_i),
    .stop_i({stop_queue, stop_queue, stop_queue[TxQ]}),
    .seg_valid_i(tx_rd_valid),
    .seg_ready_o(tx_rd_ready),
    .seg_i(tx_rd),
    .seg_last_i(tx_rd_last),
    .out_valid_o(pay_valid),
    .out_ready_i(pay_ready),
    .out_data_o(pay_data),
    .out_lane_o(pay_lane),
    .out_count_o(pay_count),
    .out_last_o(pay_last),
    .out_err_o(pay_err),
    .aux_valid_i(ra_valid),
    .aux_ready_o(ra_ready),
    .aux_i(ra),
    .aux_beat_o(ra_beat),
    .aux_data_o(ra_data),
    .aux_last_o(ra_last),
    .aux_err_o(ra_err),
    .payload_outstanding_o(read_payload_outstanding),
    .want_o(read_want),
    .outstanding_o(read_outstanding),
    .error_o(read_error),
    .m_axi_arid_o,
    .m_axi_araddr_o,
    .m_axi_arlen_o,
    .m_axi_arsize_o,
    .m_axi_arburst_o,
    .m_axi_aruser_o,
    .m_axi_arvalid_o,
    .m_axi_arready_i,
    .m_axi_rid_i,
    .m_axi_rdata_i,
    .m_axi_rresp_i,
    .m_axi_rlast_i,
    .m_axi_rvalid_i,
    .m_axi_rready_o
  );

  logic write_payload_outstanding;
  logic write_outstanding;
  logic write_want;
  logic write_error;
  axi_write #(
    .DataW(DataW),
    .AxiIdW(AxiIdW),
    .FunctionW(FunctionW),
    .NumAux(NumWrAux)
  ) u_axi_write (
    .clk_i,
    .rst_ni,
    .hold_i(!bus_master_en_i),
    .stop_i({stop, stop_queue, stop_queue, stop_queue[RxQ]}),
    .burst_valid_i(burst_valid),
    .burst_ready_o(burst_ready),
    .burst_addr_i(burst_addr),
    .burst_beats_i(burst_beats),
    .burst_last_i(burst_last),
    .beat_valid_i(beat_valid),
    .beat_ready_o(beat_ready),
    .beat_data_i(beat_data),
    .beat_strb_i(beat_strb),
    .frame_done_o(frame_done),
    .frame_err_o(frame_err),
    .aux_valid_i(wa_valid),
    .aux_ready_o(wa_ready),
    .aux_i(wa),
    .aux_done_o(wa_done),
    .aux_err_o(wa_err),
    .payload_outstanding_o(write_payload_outstanding),
    .outstanding_o(write_outstanding),
    .want_o(write_want),
    .error_o(write_error),
    .m_axi_awid_o,
    .m_axi_awaddr_o,
    .m_axi_awlen_o,
    .m_axi_awsize_o,
    .m_axi_awburst_o,
    .m_axi_awuser_o,
    .m_axi_awvalid_o,
    .m_axi_awready_i,
    .m_axi_wdata_o,
    .m_axi_wstrb_o,
    .m_axi_wlast_o,
    .m_axi_wvalid_o,
    .m_axi_wready_i,
    .m_axi_bid_i,
    .m_axi_bresp_i,
    .m_axi_bvalid_i,
    .m_axi_bready_o
  );

  always_comb begin
    broken      = front_broken | used_broken;
    broken[RxQ] = broken[RxQ] || rx_broken;
    broken[TxQ] = broken[TxQ] || tx_broken;
  end

  // Reset control.
  logic [NumQueues-1:0] idle_queue;
  logic                 reset_busy;
  logic                 reset_moving;
  always_comb begin
    idle_queue      = ~(front_outstanding | used_outstanding);
    idle_queue[RxQ] = idle_queue[RxQ] && !write_payload_outstanding;
    idle_queue[TxQ] = idle_queue[TxQ] && !read_payload_outstanding && !mac_mid_q;
  end
  nic_reset #(
    .NumQueues(NumQueues)
  ) u_reset (
    .clk_i,
    .rst_ni,
    .flr_req_i,
    .flr_done_o,
    .dev_req_i(dev_reset),
    .dev_done_o(dev_reset_done),
    .queue_req_i(queue_reset),
    .queue_done_o(queue_reset_done),
    .stop_o(stop),
    .stop_queue_o(stop_queue),
    .idle_i(!msix_outstanding),
    .idle_queue_i(idle_queue),
    .mute_queue_o(mute_queue),
    .clear_o(clear),
    .clear_queue_o(clear_queue),
    .trace_valid_o(src_valid[SrcReset]),
    .trace_ready_i(src_ready[SrcReset]),
    .trace_o(src_event[SrcReset]),
    .busy_o(reset_busy),
    .moving_o(reset_moving)
  );

  // Trace and counters.
  logic        trace_waiting;
  logic [31:0] counters_rdata;
  trace_event_t trace;
  nic_trace #(
    .NumSources(NumSources)
  ) u_trace (
    .clk_i,
    .rst_ni,
    .hdr_len_i(HdrLen),
    // What was accepted in a reset's last cycles is cut, so it must not be told after ResetDone.
    .rx_valid_i(rx_event_valid && !mute_queue[RxQ]),
    .rx_i(rx_event),
    .valid_i(src_valid & ~src_mute),
    .ready_o(src_ready),
    .event_i(src_event),
    .trace_valid_o,
    .trace_o(trace),
    .dma_error_i({read_error, write_error}),
    .bus_read_i(bus_valid && !bus_write && bus_addr[15:12] == CountersBase[15:12]),
    .bus_addr_i(bus_addr[11:2]),
    .bus_rdata_o(counters_rdata),
    .waiting_o(trace_waiting)
  );
  assign trace_word_o = trace;

  always_comb begin
    unique case (bus_addr[15:12])
      CountersBase[15:12]:  bus_rdata = counters_rdata;
      MsixTableBase[15:12]: bus_rdata = table_rdata;
      MsixPbaBase[15:12]:   bus_rdata = pba_rdata;
      default:              bus_rdata = regs_rdata;
    endcase
  end

  // Activity. What moves in any block keeps the NIC busy for a few cycles more, so that no
  // pipeline stage needs a report of its own; what is left then can only be moved from outside.
  localparam logic [4:0] Linger = 5'd16;
  logic       moving;
  logic [4:0] linger_q;
  logic       link_q;
  assign moving = bar_busy || cfg_busy || reset_moving || msix_moving || tx_moving || place_moving
                  || write_moving || (front_moving != '0) || (used_moving != '0) || trace_waiting
                  || read_want || write_want || (link_q != link_up_i)
                  || m_axi_arvalid_o || m_axi_rvalid_i || m_axi_awvalid_o || m_axi_wvalid_o
                  || m_axi_bvalid_i || s_mac_tvalid_i || m_mac_tvalid_o;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      linger_q <= '0;
      link_q   <= 1'b0;
    end else begin
      link_q <= link_up_i;
      if (moving) linger_q <= Linger;
      else if (linger_q != '0) linger_q <= linger_q - 1'b1;
    end
  end
  assign busy_o    = moving || linger_q != '0 || rx_busy || (tx_busy && !mac_shut)
                     || (flr_req_i && !reset_busy);
  assign waiting_o = !busy_o && (read_outstanding || write_outstanding);

endmodule

`default_nettype wire
