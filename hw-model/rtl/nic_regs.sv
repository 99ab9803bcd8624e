// Registers of BAR 0 but for MSI-X and counters: common configuration (virtio 1.3, 4.1.4.3), ISR
// (4.1.4.5), device configuration (5.1.4) and notifications (4.1.4.4).
//
// What the standard forbids the driver to do is ignored here: features after FEATURES_OK, queue
// registers of a queue that is enabled or does not exist, sizes that cannot be, vectors that do
// not exist (they read back NO_VECTOR), enabling before FEATURES_OK, clearing a status bit other
// than by reset. FEATURES_OK stays clear when the driver's set is not a subset of what was
// offered, or lacks VERSION_1 or RING_PACKED (3.1.1, 6.1).
//
// Writing 0 to device_status raises dev_reset_o until dev_reset_done_i; until then the status
// reads as it was, and writes change nothing. Likewise queue_reset, queue by queue (4.1.4.3.1).
// The bus answers in the cycle of the access.

`default_nettype none

module nic_regs
  import tandem_pkg::*;
  import tandem_nic_pkg::*;
#(
  parameter int unsigned QueuePairs   = 1,
  parameter int unsigned QueueSizeMax = 256,
  parameter int unsigned MsixVectors  = 3,
  parameter logic [47:0] Mac          = 48'h02_54_4e_44_4d_01,
  parameter logic [15:0] Mtu          = 16'd1500,
  localparam int unsigned NumQueues   = 2 * QueuePairs,
  localparam int unsigned NumCauses   = NumQueues + 1
) (
  input  wire logic                 clk_i,
  input  wire logic                 rst_ni,
  input  wire logic                 flr_i,            // pulse: all as after the chip's reset
  input  wire logic                 link_up_i,

  input  wire logic                 bus_valid_i,
  input  wire logic                 bus_write_i,
  input  wire logic [15:2]          bus_addr_i,
  input  wire logic [3:0]           bus_be_i,
  input  wire logic [31:0]          bus_wdata_i,
  output logic [31:0]               bus_rdata_o,

  output queue_cfg_t                queue_o [NumQueues],
  output logic [NumQueues-1:0]      active_o,         // may be worked on
  output logic [NumQueues-1:0]      kick_o,           // pulses
  output logic [63:0]               features_o,       // negotiated; zero before FEATURES_OK
  input  wire logic [NumQueues-1:0] broken_i,         // pulses

  output logic                      dev_reset_o,
  input  wire logic                 dev_reset_done_i, // pulse
  output logic [NumQueues-1:0]      queue_reset_o,
  input  wire logic [NumQueues-1:0] queue_reset_done_i,

  output logic                      cfg_change_o,     // pulse: tell the driver
  output logic [15:0]               vector_o [NumCauses],
  output logic                      isr_read_o,
  input  wire logic [1:0]           isr_i
);

  localparam int unsigned QueueW = $clog2(NumQueues);
  localparam logic [15:0] NoVector = 16'hffff;

  localparam int unsigned StatusDriverOk = 2;
  localparam int unsigned StatusFeaturesOk = 3;
  localparam int unsigned StatusNeedsReset = 6;

  logic [31:0]          dev_sel_q;
  logic [31:0]          drv_sel_q;
  logic [63:0]          drv_feat_q;
  logic [15:0]          cfg_vector_q;
  logic [7:0]           status_q;
  logic [7:0]           generation_q;
  logic [15:0]          queue_sel_q;
  queue_cfg_t           queue_q [NumQueues];
  logic [NumQueues-1:0] enable_q;
  logic [NumQueues-1:0] broken_q;
  logic [NumQueues-1:0] queue_reset_q;
  logic                 dev_reset_q;
  logic                 link_q;

  localparam queue_cfg_t QueueDefault = '{
      desc: '0,
      driver: '0,
      device: '0,
      size: 16'(QueueSizeMax),
      vector: NoVector
  };

  // Decoding.
  logic       in_common;
  logic       in_isr;
  logic       in_device;
  logic       in_notify;
  logic [7:0] addr;
  assign addr      = {bus_addr_i[7:2], 2'b00};
  assign in_common = {bus_addr_i, 2'b00} < 16'(CommonBase + CommonLen);
  assign in_isr    = {bus_addr_i, 2'b00} == 16'(IsrBase);
  assign in_device = {bus_addr_i, 2'b00} >= 16'(DeviceBase)
                     && {bus_addr_i, 2'b00} < 16'(DeviceBase + DeviceLen);
  assign in_notify = {bus_addr_i, 2'b00} >= 16'(NotifyBase)
                     && {bus_addr_i, 2'b00} < 16'(NotifyBase) + 16'(4 * NumQueues);

  logic              sel_valid;
  logic [QueueW-1:0] sel;
  queue_cfg_t        sel_queue;
  logic              sel_enabled;
  assign sel_valid   = 32'(queue_sel_q) < NumQueues;
  assign sel         = queue_sel_q[QueueW-1:0];
  assign sel_queue   = queue_q[sel];
  assign sel_enabled = enable_q[sel] || queue_reset_q[sel];

  logic [31:0] dev_feat;
  logic [31:0] drv_feat;
  assign dev_feat = dev_sel_q == 32'd0 ? FeaturesOffered[31:0]
                    : dev_sel_q == 32'd1 ? FeaturesOffered[63:32] : '0;
  assign drv_feat = drv_sel_q == 32'd0 ? drv_feat_q[31:0]
                    : drv_sel_q == 32'd1 ? drv_feat_q[63:32] : '0;

  logic [31:0] common;
  always_comb begin
    common = '0;
    unique case (addr)
      CommonDeviceFeatureSelect: common = dev_sel_q;
      CommonDeviceFeature:       common = dev_feat;
      CommonDriverFeatureSelect: common = drv_sel_q;
      CommonDriverFeature:       common = drv_feat;
      CommonConfigMsixVector:    common = {16'(NumQueues), cfg_vector_q};
      CommonDeviceStatus:        common = {queue_sel_q, generation_q, status_q};
      CommonQueueSize:           common = sel_valid ? {sel_queue.vector, sel_queue.size}
                                                    : {NoVector, 16'd0};
      CommonQueueEnable:         common = sel_valid ? {queue_sel_q, 15'd0, enable_q[sel]} : '0;
      CommonQueueDesc:           common = sel_valid ? sel_queue.desc[31:0] : '0;
      CommonQueueDesc + 8'd4:    common = sel_valid ? sel_queue.desc[63:32] : '0;
      CommonQueueDriver:         common = sel_valid ? sel_queue.driver[31:0] : '0;
      CommonQueueDriver + 8'd4:  common = sel_valid ? sel_queue.driver[63:32] : '0;
      CommonQueueDevice:         common = sel_valid ? sel_queue.device[31:0] : '0;
      CommonQueueDevice + 8'd4:  common = sel_valid ? sel_queue.device[63:32] : '0;
      CommonQueueNotifConfigData:
        common = sel_valid ? {15'd0, queue_reset_q[sel], queue_sel_q} : '0;
      default: common = '0;
    endcase
  end

  logic [31:0] device;
  always_comb begin
    unique case (addr)
      DeviceMac:         device = {Mac[23:16], Mac[31:24], Mac[39:32], Mac[47:40]};
      // Link state above the last two bytes of the address (VIRTIO_NET_S_LINK_UP is bit 0).
      8'd4:              device = {15'd0, link_q, Mac[7:0], Mac[15:8]};
      DeviceMaxVirtqueuePairs: device = {Mtu, 16'(QueuePairs)};
      DeviceSpeed:       device = SpeedMbit;
      DeviceDuplex:      device = 32'd1;
      default:           device = '0;
    endcase
  end

  always_comb begin
    bus_rdata_o = '0;
    if (in_common) bus_rdata_o = common;
    else if (in_isr) bus_rdata_o = {30'd0, isr_i};
    else if (in_device) bus_rdata_o = device;
  end

  assign isr_read_o = bus_valid_i && !bus_write_i && in_isr;

  // The addressed dword as it would be with the enabled bytes replaced.
  logic [31:0] next;
  always_comb begin
    next = common;
    for (int unsigned b = 0; b < 4; b++) begin
      if (bus_be_i[b]) next[8*b+:8] = bus_wdata_i[8*b+:8];
    end
  end

  logic write_common;
  logic write_free;         // and the device is not in reset
  logic write_queue;        // and the selected queue may be set up
  assign write_common = bus_valid_i && bus_write_i && in_common;
  assign write_free   = write_common && !dev_reset_q;
  assign write_queue  = write_free && sel_valid && !sel_enabled;

  logic features_good;
  assign features_good = (drv_feat_q & ~FeaturesOffered) == '0
                         && (drv_feat_q & FeaturesRequired) == FeaturesRequired;

  logic status_write;
  logic status_zero;
  assign status_write = write_free && addr == CommonDeviceStatus && bus_be_i[0];
  assign status_zero  = status_write && bus_wdata_i[7:0] == 8'd0;

  logic [15:0] next_vector;
  always_comb begin
    next_vector = addr == CommonConfigMsixVector ? next[15:0] : next[31:16];
    if (32'(next_vector) >= MsixVectors) next_vector = NoVector;
  end

  logic link_change;
  assign link_change = link_q != link_up_i;
  logic newly_broken;
  assign newly_broken = (broken_i & ~broken_q) != '0;

  logic clear;
  assign clear = dev_reset_done_i || flr_i || (status_zero && status_q == 8'd0);

  always_ff @(posedge clk_i) begin
    if (!rst_ni || clear) begin
      dev_sel_q     <= '0;
      drv_sel_q     <= '0;
      drv_feat_q    <= '0;
      cfg_vector_q  <= NoVector;
      status_q      <= '0;
      queue_sel_q   <= '0;
      enable_q      <= '0;
      broken_q      <= '0;
      queue_reset_q <= '0;
      dev_reset_q   <= 1'b0;
      for (int unsigned q = 0; q < NumQueues; q++) queue_q[q] <= QueueDefault;
    end else begin
      if (write_common) begin
        if (addr == CommonDeviceFeatureSelect) dev_sel_q <= next;
        if (addr == CommonDriverFeatureSelect) drv_sel_q <= next;
        if (addr == CommonDeviceStatus) queue_sel_q <= next[31:16];
      end
      if (write_free) begin
        if (addr == CommonDriverFeature && !status_q[StatusFeaturesOk]) begin
          if (drv_sel_q == 32'd0) drv_feat_q[31:0] <= next;
          if (drv_sel_q == 32'd1) drv_feat_q[63:32] <= next;
        end
        if (addr == CommonConfigMsixVector && bus_be_i[1:0] != '0) cfg_vector_q <= next_vector;
        if (addr == CommonQueueSize && bus_be_i[3:2] != '0 && sel_valid)
          queue_q[sel].vector <= next_vector;
        if (addr == CommonQueueNotifConfigData && bus_be_i[2] && next[16]
            && features_o[FeatRingReset] && sel_valid && enable_q[sel])
          queue_reset_q[sel] <= 1'b1;
      end
      if (write_queue) begin
        unique case (addr)
          // Packed rings may have any size (2.8.10.1 speaks of 32768 as the most).
          CommonQueueSize:
            if (next[15:0] != '0 && 32'(next[15:0]) <= QueueSizeMax)
              queue_q[sel].size <= next[15:0];
          CommonQueueEnable:
            if (next[15:0] == 16'd1 && status_q[StatusFeaturesOk]) enable_q[sel] <= 1'b1;
          CommonQueueDesc:           queue_q[sel].desc[31:0] <= next;
          CommonQueueDesc + 8'd4:    queue_q[sel].desc[63:32] <= next;
          CommonQueueDriver:         queue_q[sel].driver[31:0] <= next;
          CommonQueueDriver + 8'd4:  queue_q[sel].driver[63:32] <= next;
          CommonQueueDevice:         queue_q[sel].device[31:0] <= next;
          CommonQueueDevice + 8'd4:  queue_q[sel].device[63:32] <= next;
          default: ;
        endcase
      end
      if (status_zero) dev_reset_q <= 1'b1;
      else if (status_write) begin
        status_q <= status_q | (bus_wdata_i[7:0] & ~8'(1 << StatusNeedsReset)
                                & (features_good ? 8'hff : ~8'(1 << StatusFeaturesOk)));
      end
      for (int unsigned q = 0; q < NumQueues; q++) begin
        if (broken_i[q]) broken_q[q] <= 1'b1;
        if (queue_reset_done_i[q]) begin
          queue_reset_q[q] <= 1'b0;
          enable_q[q]      <= 1'b0;
          broken_q[q]      <= 1'b0;
          queue_q[q]       <= QueueDefault;
        end
      end
      if (broken_i != '0) status_q[StatusNeedsReset] <= 1'b1;
    end
  end

  // Device configuration changes are counted over resets too: the generation may only move on.
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      generation_q <= '0;
      link_q       <= link_up_i;
    end else begin
      link_q <= link_up_i;
      if (link_change) generation_q <= generation_q + 1'b1;
    end
  end

  // A change of configuration, and DEVICE_NEEDS_RESET, are told once the driver is ready (2.1.2).
  assign cfg_change_o = status_q[StatusDriverOk] && !dev_reset_q && (link_change || newly_broken);
  assign dev_reset_o  = dev_reset_q;
  assign queue_reset_o = queue_reset_q;
  assign features_o   = status_q[StatusFeaturesOk] ? drv_feat_q : '0;
  assign queue_o      = queue_q;

  always_comb begin
    for (int unsigned q = 0; q < NumQueues; q++) begin
      active_o[q] = enable_q[q] && !queue_reset_q[q] && !broken_q[q] && !dev_reset_q
                    && status_q[StatusDriverOk] && status_q[StatusFeaturesOk];
      // The address says which queue; what NOTIFICATION_DATA adds is a hint that is not needed.
      kick_o[q]   = bus_valid_i && bus_write_i && in_notify && active_o[q]
                    && bus_addr_i[11:2] == 10'(q);
      vector_o[q] = queue_q[q].vector;
    end
    vector_o[NumQueues] = cfg_vector_q;
  end

endmodule

`default_nettype wire
