// One way into BAR 0 for two masters: the AXI4-Lite slave and the PCI_CFG window of configuration
// space.
//
//   AXI4-Lite read, write --\
//                            choose -> access (one cycle on the register bus) -> answer
//   PCI_CFG window ---------/
//
// One access at a time; three cycles for each. The register bus has byte enables and answers
// reads in the cycle of the access, which is also when side effects happen. Every address is
// answered: what is not there reads as zero and ignores writes.

`default_nettype none

module nic_bar (
  input  wire logic        clk_i,
  input  wire logic        rst_ni,

  input  wire logic [15:0] s_axil_awaddr_i,
  input  wire logic        s_axil_awvalid_i,
  output logic             s_axil_awready_o,
  input  wire logic [31:0] s_axil_wdata_i,
  input  wire logic [3:0]  s_axil_wstrb_i,
  input  wire logic        s_axil_wvalid_i,
  output logic             s_axil_wready_o,
  output logic [1:0]       s_axil_bresp_o,
  output logic             s_axil_bvalid_o,
  input  wire logic        s_axil_bready_i,
  input  wire logic [15:0] s_axil_araddr_i,
  input  wire logic        s_axil_arvalid_i,
  output logic             s_axil_arready_o,
  output logic [31:0]      s_axil_rdata_o,
  output logic [1:0]       s_axil_rresp_o,
  output logic             s_axil_rvalid_o,
  input  wire logic        s_axil_rready_i,

  input  wire logic        win_valid_i,     // held until win_done_o
  input  wire logic        win_write_i,
  input  wire logic [15:2] win_addr_i,
  input  wire logic [3:0]  win_be_i,
  input  wire logic [31:0] win_wdata_i,
  output logic             win_done_o,      // pulse
  output logic [31:0]      win_rdata_o,

  output logic             bus_valid_o,
  output logic             bus_write_o,
  output logic [15:2]      bus_addr_o,
  output logic [3:0]       bus_be_o,
  output logic [31:0]      bus_wdata_o,
  input  wire logic [31:0] bus_rdata_i,
  output logic             busy_o
);

  typedef enum logic [1:0] {
    OfWrite,
    OfRead,
    OfWindow
  } owner_e;
  typedef enum logic [1:0] {
    StIdle,
    StAccess,
    StAnswer
  } state_e;
  state_e state_q, state_d;
  owner_e owner_q, owner_d;
  logic [1:0] turn_q, turn_d;  // who is asked first
  logic [31:0] rdata_q;
  logic [15:2] addr_q, addr_d;
  logic [3:0] be_q, be_d;
  logic [31:0] wdata_q, wdata_d;
  logic write_q, write_d;
  logic [2:0] want;

  assign want = {win_valid_i, s_axil_arvalid_i, s_axil_awvalid_i && s_axil_wvalid_i};

  always_comb begin
    state_d = state_q;
    owner_d = owner_q;
    turn_d  = turn_q;
    addr_d  = addr_q;
    be_d    = be_q;
    wdata_d = wdata_q;
    write_d = write_q;
    s_axil_awready_o = 1'b0;
    s_axil_wready_o  = 1'b0;
    s_axil_arready_o = 1'b0;
    s_axil_bvalid_o  = 1'b0;
    s_axil_rvalid_o  = 1'b0;
    win_done_o       = 1'b0;
    unique case (state_q)
      StIdle: begin
        if (want != '0) begin
          // From turn_q on, the first that wants.
          owner_d = OfWindow;
          if (want[0]) owner_d = OfWrite;
          else if (want[1]) owner_d = OfRead;
          if (turn_q == OfRead && want[1]) owner_d = OfRead;
          if (turn_q == OfRead && !want[1] && want[2]) owner_d = OfWindow;
          if (turn_q == OfWindow && want[2]) owner_d = OfWindow;
          turn_d  = owner_d == OfWrite ? OfRead : owner_d == OfRead ? OfWindow : OfWrite;
          state_d = StAccess;
          unique case (owner_d)
            OfWrite: begin
              s_axil_awready_o = 1'b1;
              s_axil_wready_o  = 1'b1;
              write_d = 1'b1;
              addr_d  = s_axil_awaddr_i[15:2];
              be_d    = s_axil_wstrb_i;
              wdata_d = s_axil_wdata_i;
            end
            OfRead: begin
              s_axil_arready_o = 1'b1;
              write_d = 1'b0;
              addr_d  = s_axil_araddr_i[15:2];
              be_d    = '1;
            end
            default: begin
              write_d = win_write_i;
              addr_d  = win_addr_i;
              be_d    = win_be_i;
              wdata_d = win_wdata_i;
            end
          endcase
        end
      end
      StAccess: state_d = StAnswer;
      StAnswer: begin
        unique case (owner_q)
          OfWrite: begin
            s_axil_bvalid_o = 1'b1;
            if (s_axil_bready_i) state_d = StIdle;
          end
          OfRead: begin
            s_axil_rvalid_o = 1'b1;
            if (s_axil_rready_i) state_d = StIdle;
          end
          default: begin
            win_done_o = 1'b1;
            state_d    = StIdle;
          end
        endcase
      end
      default: state_d = StIdle;
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q <= StIdle;
      owner_q <= OfWrite;
      turn_q  <= OfWrite;
      addr_q  <= '0;
      be_q    <= '0;
      wdata_q <= '0;
      write_q <= 1'b0;
      rdata_q <= '0;
    end else begin
      state_q <= state_d;
      owner_q <= owner_d;
      turn_q  <= turn_d;
      addr_q  <= addr_d;
      be_q    <= be_d;
      wdata_q <= wdata_d;
      write_q <= write_d;
      if (state_q == StAccess) rdata_q <= bus_rdata_i;
    end
  end

  assign bus_valid_o    = state_q == StAccess;
  assign bus_write_o    = write_q;
  assign bus_addr_o     = addr_q;
  assign bus_be_o       = be_q;
  assign bus_wdata_o    = wdata_q;
  assign s_axil_rdata_o = rdata_q;
  assign win_rdata_o    = rdata_q;
  assign s_axil_bresp_o = '0;
  assign s_axil_rresp_o = '0;
  assign busy_o         = state_q != StIdle || want != '0;

  // Byte lanes come from strobes; the two low address bits say nothing more.
  logic unused_low;
  assign unused_low = ^{s_axil_awaddr_i[1:0], s_axil_araddr_i[1:0]};

endmodule

`default_nettype wire
