// The NIC's part of configuration space: five virtio vendor capabilities (virtio 1.3, 4.1.4), the
// last of them the window PCI_CFG (4.1.4.9), through which BAR 0 can be reached without mapping
// it.
//
// A read or write of pci_cfg_data becomes an access to BAR 0 when cap.bar is 0, cap.length is 1,
// 2 or 4, and cap.offset is a multiple of it inside the BAR; any other gives zero and does
// nothing. Other dwords answer in the next cycle. Bytes of a write that are not enabled keep what
// pci_cfg_data held.

`default_nettype none

module nic_cfg
  import tandem_pkg::*;
#(
  parameter int unsigned NumQueues = 2
) (
  input  wire logic        clk_i,
  input  wire logic        rst_ni,

  input  wire logic        cfg_valid_i,
  input  wire logic        cfg_write_i,
  input  wire logic [11:0] cfg_addr_i,
  input  wire logic [3:0]  cfg_be_i,
  input  wire logic [31:0] cfg_wdata_i,
  output logic             cfg_ready_o,
  output logic [31:0]      cfg_rdata_o,

  output logic             win_valid_o,
  output logic             win_write_o,
  output logic [15:2]      win_addr_o,
  output logic [3:0]       win_be_o,
  output logic [31:0]      win_wdata_o,
  input  wire logic        win_done_i,
  input  wire logic [31:0] win_rdata_i,
  output logic             busy_o
);

  localparam logic [11:0] WinBar = CfgPciCfgCap + 12'd4;
  localparam logic [11:0] WinOffset = CfgPciCfgCap + 12'd8;
  localparam logic [11:0] WinLength = CfgPciCfgCap + 12'd12;
  localparam logic [11:0] WinData = CfgPciCfgCap + 12'd16;

  // cap_vndr, cap_next, cap_len, cfg_type: 4.1.4.
  function automatic logic [31:0] cap_head(logic [7:0] cap_type, logic [7:0] len, logic [7:0] next);
    return {cap_type, len, next, 8'h09};
  endfunction

  logic [7:0]  bar_q;
  logic [31:0] offset_q;
  logic [31:0] length_q;
  logic [31:0] data_q;
  logic [11:0] addr;
  assign addr = {cfg_addr_i[11:2], 2'b00};
  logic unused_low;
  assign unused_low = ^cfg_addr_i[1:0];

  logic [31:0] word;
  always_comb begin
    unique case (addr)
      CfgCommonCap:            word = cap_head(8'd1, 8'd16, 8'(CfgNotifyCap));
      CfgCommonCap + 12'd8:    word = CommonBase;
      CfgCommonCap + 12'd12:   word = CommonLen;
      CfgNotifyCap:            word = cap_head(8'd2, 8'd20, 8'(CfgIsrCap));
      CfgNotifyCap + 12'd8:    word = NotifyBase;
      CfgNotifyCap + 12'd12:   word = NotifyStride * NumQueues;
      CfgNotifyCap + 12'd16:   word = NotifyStride;
      CfgIsrCap:               word = cap_head(8'd3, 8'd16, 8'(CfgDeviceCap));
      CfgIsrCap + 12'd8:       word = IsrBase;
      CfgIsrCap + 12'd12:      word = IsrLen;
      CfgDeviceCap:            word = cap_head(8'd4, 8'd16, 8'(CfgPciCfgCap));
      CfgDeviceCap + 12'd8:    word = DeviceBase;
      CfgDeviceCap + 12'd12:   word = DeviceLen;
      CfgPciCfgCap:            word = cap_head(8'd5, 8'd20, 8'd0);
      WinBar:                  word = {24'd0, bar_q};
      WinOffset:               word = offset_q;
      WinLength:               word = length_q;
      default:                 word = '0;
    endcase
  end

  // What the window does now.
  logic       legal;
  logic [3:0] width_be;
  always_comb begin
    legal    = bar_q == 8'd0 && offset_q < BarLen;
    width_be = 4'b0000;
    unique case (length_q)
      32'd1: width_be = 4'b0001;
      32'd2: begin
        width_be = 4'b0011;
        if (offset_q[0]) legal = 1'b0;
      end
      32'd4: begin
        width_be = 4'b1111;
        if (offset_q[1:0] != 2'd0) legal = 1'b0;
      end
      default: legal = 1'b0;
    endcase
  end

  logic [31:0] wdata;  // pci_cfg_data with the enabled bytes replaced
  always_comb begin
    wdata = data_q;
    for (int unsigned b = 0; b < 4; b++) begin
      if (cfg_be_i[b]) wdata[8*b+:8] = cfg_wdata_i[8*b+:8];
    end
  end

  typedef enum logic [1:0] {
    StIdle,
    StWindow,
    StAnswer
  } state_e;
  state_e state_q, state_d;
  logic [31:0] answer_q, answer_d;
  always_comb begin
    state_d     = state_q;
    answer_d    = answer_q;
    win_valid_o = 1'b0;
    unique case (state_q)
      StIdle: begin
        if (cfg_valid_i) begin
          answer_d = word;
          state_d  = StAnswer;
          if (addr == WinData && legal && (!cfg_write_i || cfg_be_i != '0)) state_d = StWindow;
        end
      end
      StWindow: begin
        win_valid_o = 1'b1;
        if (win_done_i) begin
          // The first cap.length bytes of pci_cfg_data hold the value.
          answer_d = (win_rdata_i >> {offset_q[1:0], 3'd0})
                     & {{8{width_be[3]}}, {8{width_be[2]}}, {8{width_be[1]}}, {8{width_be[0]}}};
          state_d  = StAnswer;
        end
      end
      StAnswer: state_d = StIdle;
      default:  state_d = StIdle;
    endcase
  end

  assign win_write_o = cfg_write_i;
  assign win_addr_o  = offset_q[15:2];
  assign win_be_o    = width_be << offset_q[1:0];
  assign win_wdata_o = wdata << {offset_q[1:0], 3'd0};
  assign cfg_ready_o = state_q == StAnswer;
  assign cfg_rdata_o = answer_q;
  assign busy_o      = cfg_valid_i || state_q != StIdle;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q  <= StIdle;
      answer_q <= '0;
      bar_q    <= '0;
      offset_q <= '0;
      length_q <= '0;
      data_q   <= '0;
    end else begin
      // 4.1.4.9.1: what is read through the window is stored in pci_cfg_data.
      if (cfg_ready_o && !cfg_write_i && addr == WinData) data_q <= answer_q;
      state_q  <= state_d;
      answer_q <= answer_d;
      if (cfg_ready_o && cfg_write_i) begin
        if (addr == WinBar && cfg_be_i[0]) bar_q <= cfg_wdata_i[7:0];
        for (int unsigned b = 0; b < 4; b++) begin
          if (addr == WinOffset && cfg_be_i[b]) offset_q[8*b+:8] <= cfg_wdata_i[8*b+:8];
          if (addr == WinLength && cfg_be_i[b]) length_q[8*b+:8] <= cfg_wdata_i[8*b+:8];
        end
        if (addr == WinData) data_q <= wdata;
      end
    end
  end

endmodule

`default_nettype wire
