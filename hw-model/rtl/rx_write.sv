// Receive, moving half: writes header and frame to the buffers that rx_place chose.
//
//   plan --> source:  header beats, then the frame's beats -----------> [cur] realign -> W beats
//       \--> address: segments -> bursts -> AW (axi_write) -> cut fifo ---^
//
// The header is laid to the end of its beats, so that the frame's beats follow as they come; a
// burst that starts at another lane turns them by (destination - source) lanes, two source beats
// to one bus beat. One bus beat a cycle; one cycle lost between frames. A frame whose plan is a
// drop is swallowed.

`default_nettype none

module rx_write
  import tandem_nic_pkg::*;
#(
  parameter int unsigned DataW  = 512,
  localparam int unsigned Bytes = DataW / 8,
  localparam int unsigned LaneW = $clog2(Bytes)
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic [7:0]       hdr_len_i,      // bytes, at least 12, at most 2 beats

  input  wire logic             plan_valid_i,
  output logic                  plan_ready_o,
  input  wire logic             plan_drop_i,
  input  wire logic [16:0]      plan_len_i,
  input  wire logic [15:0]      plan_descs_i,
  input  wire logic [95:0]      plan_hdr_i,

  input  wire logic             seg_valid_i,
  output logic                  seg_ready_o,
  input  wire seg_t             seg_i,

  input  wire logic             in_valid_i,
  output logic                  in_ready_o,
  input  wire logic [DataW-1:0] in_data_i,
  input  wire logic             in_last_i,

  output logic                  burst_valid_o,
  input  wire logic             burst_ready_i,
  output logic [63:0]           burst_addr_o,
  output logic [8:0]            burst_beats_o,
  output logic                  burst_last_o,
  output logic                  beat_valid_o,
  input  wire logic             beat_ready_i,
  output logic [DataW-1:0]      beat_data_o,
  output logic [Bytes-1:0]      beat_strb_o,

  output logic                  moving_o
);

  localparam int unsigned MaxBurst = (256 * Bytes < 4096) ? 256 * Bytes : 4096;
  localparam int unsigned PlanMax = 8;

  logic             src_plan_ready;
  logic             src_plan_valid;
  logic             src_plan_pop;
  logic             src_drop;
  logic [95:0]      src_hdr;
  logic             adr_plan_ready;
  logic             adr_plan_valid;
  logic             adr_plan_pop;
  logic [16:0]      adr_len;
  logic [15:0]      adr_descs;
  assign plan_ready_o = src_plan_ready && adr_plan_ready;

  sync_fifo #(
    .Width(97),
    .Depth(PlanMax)
  ) u_src_plan (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(plan_valid_i && plan_ready_o),
    .in_ready_o(src_plan_ready),
    .in_data_i({plan_drop_i, plan_hdr_i}),
    .out_valid_o(src_plan_valid),
    .out_ready_i(src_plan_pop),
    .out_data_o({src_drop, src_hdr}),
    .count_o()
  );
  sync_fifo #(
    .Width(33),
    .Depth(PlanMax)
  ) u_adr_plan (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(plan_valid_i && plan_ready_o && !plan_drop_i),
    .in_ready_o(adr_plan_ready),
    .in_data_i({plan_len_i, plan_descs_i}),
    .out_valid_o(adr_plan_valid),
    .out_ready_i(adr_plan_pop),
    .out_data_o({adr_len, adr_descs}),
    .count_o()
  );

  // Source: header beats before the frame's.
  logic [LaneW-1:0]   start_lane;
  logic [7:0]         hdr_beats;
  logic [7:0]         hdr_sent_q;
  logic               in_hdr;
  logic [2*DataW-1:0] hdr_wide;
  logic [DataW-1:0]   hdr_beat;
  logic               src_valid;
  logic               src_ready;
  logic [DataW-1:0]   src_data;
  assign start_lane = -LaneW'(hdr_len_i);
  assign hdr_beats  = 8'((9'(hdr_len_i) + 9'(Bytes - 1)) >> LaneW);
  assign in_hdr     = hdr_sent_q != hdr_beats;
  assign hdr_wide   = (2 * DataW)'(src_hdr) << {start_lane, 3'd0};
  assign hdr_beat   = hdr_sent_q == '0 ? hdr_wide[DataW-1:0] : hdr_wide[2*DataW-1:DataW];

  logic swallow;
  assign swallow      = src_plan_valid && src_drop;
  assign src_valid    = src_plan_valid && !src_drop && (in_hdr || in_valid_i);
  assign src_data     = in_hdr ? hdr_beat : in_data_i;
  assign in_ready_o   = swallow || (src_plan_valid && !in_hdr && src_ready);
  assign src_plan_pop = in_valid_i && in_ready_o && in_last_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni || src_plan_pop) hdr_sent_q <= '0;
    else if (src_valid && src_ready && in_hdr) hdr_sent_q <= hdr_sent_q + 1'b1;
  end

  // Addresses: a frame's segments, cut at burst borders; descriptors that it does not fill are
  // passed over.
  typedef enum logic [1:0] {
    AdIdle,
    AdSeg,
    AdBurst
  } address_e;
  address_e ad_q, ad_d;
  logic [16:0] left_q, left_d;  // bytes of the frame without an address
  logic [15:0] descs_q, descs_d;
  logic [63:0] addr_q, addr_d;
  logic [16:0] seg_left_q, seg_left_d;
  logic [12:0] to_edge;
  logic [12:0] burst_bytes;
  logic        burst_ends;
  logic        cut_ready;

  assign to_edge     = 13'(MaxBurst) - 13'(addr_q[11:0] & 12'(MaxBurst - 1));
  assign burst_ends  = seg_left_q <= 17'(to_edge);
  assign burst_bytes = burst_ends ? seg_left_q[12:0] : to_edge;
  assign burst_addr_o  = addr_q;
  assign burst_beats_o = 9'((13'(addr_q[LaneW-1:0]) + burst_bytes + 13'(Bytes - 1)) >> LaneW);
  assign burst_last_o  = 17'(burst_bytes) == left_q;

  always_comb begin
    ad_d       = ad_q;
    left_d     = left_q;
    descs_d    = descs_q;
    addr_d     = addr_q;
    seg_left_d = seg_left_q;
    adr_plan_pop  = 1'b0;
    seg_ready_o   = 1'b0;
    burst_valid_o = 1'b0;
    unique case (ad_q)
      AdIdle: begin
        left_d  = adr_len;
        descs_d = adr_descs;
        if (adr_plan_valid) begin
          adr_plan_pop = 1'b1;
          ad_d         = AdSeg;
        end
      end
      AdSeg: begin
        addr_d     = seg_i.addr;
        seg_left_d = seg_i.len < 32'(left_q) ? seg_i.len[16:0] : left_q;
        if (descs_q == '0) begin
          ad_d = AdIdle;
        end else if (seg_valid_i) begin
          seg_ready_o = 1'b1;
          descs_d     = descs_q - 16'd1;
          if (left_q != '0) ad_d = AdBurst;
        end
      end
      AdBurst: begin
        burst_valid_o = cut_ready;
        if (cut_ready && burst_ready_i) begin
          addr_d     = addr_q + 64'(burst_bytes);
          seg_left_d = seg_left_q - 17'(burst_bytes);
          left_d     = left_q - 17'(burst_bytes);
          if (burst_ends) ad_d = (descs_q == '0) ? AdIdle : AdSeg;
        end
      end
      default: ad_d = AdIdle;
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      ad_q       <= AdIdle;
      left_q     <= '0;
      descs_q    <= '0;
      addr_q     <= '0;
      seg_left_q <= '0;
    end else begin
      ad_q       <= ad_d;
      left_q     <= left_d;
      descs_q    <= descs_d;
      addr_q     <= addr_d;
      seg_left_q <= seg_left_d;
    end
  end

  // A burst whose beats are to be cut.
  typedef struct packed {
    logic [LaneW-1:0] lane;
    logic [12:0]      bytes;
    logic             last;
  } cut_t;
  cut_t cut;
  cut_t cut_in;
  logic cut_valid;
  logic cut_pop;
  assign cut_in = '{lane: addr_q[LaneW-1:0], bytes: burst_bytes, last: burst_last_o};
  sync_fifo #(
    .Width($bits(cut_t)),
    .Depth(8)
  ) u_cut (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(burst_valid_o && burst_ready_i),
    .in_ready_o(cut_ready),
    .in_data_i(cut_in),
    .out_valid_o(cut_valid),
    .out_ready_i(cut_pop),
    .out_data_o(cut),
    .count_o()
  );

  // Realignment.
  logic [DataW-1:0] cur_q;
  logic             cur_valid_q;
  logic [LaneW-1:0] lane_q;       // first lane of cur_q that is not written yet
  logic             midway_q;     // inside the burst: the bus beat starts at lane 0
  logic [12:0]      bytes_q;      // left in the burst, when midway
  logic [LaneW-1:0] to_lane;
  logic [12:0]      have;
  logic [12:0]      span;
  logic [LaneW:0]   take;
  logic             burst_end;
  logic [LaneW+1:0] reach;
  logic             over;         // needs the next source beat
  logic             exact;        // uses up the current one
  logic             fire;
  logic             frame_end;
  logic [LaneW-1:0] turn;
  logic [DataW-1:0] mixed;
  logic [Bytes-1:0] new_lanes;

  assign to_lane   = midway_q ? '0 : cut.lane;
  assign have      = midway_q ? bytes_q : cut.bytes;
  assign span      = 13'(Bytes) - 13'(to_lane);
  assign burst_end = have <= span;
  assign take      = burst_end ? have[LaneW:0] : span[LaneW:0];
  assign reach     = (LaneW + 2)'(lane_q) + (LaneW + 2)'(take);
  assign over      = reach > (LaneW + 2)'(Bytes);
  assign exact     = reach == (LaneW + 2)'(Bytes);
  assign frame_end = burst_end && cut.last;
  assign turn      = to_lane - lane_q;
  assign new_lanes = ~({Bytes{1'b1}} << lane_q);

  // The next source beat is looked at only when it is needed: it may come while this one is stalled,
  // and what is offered must not change then, in lanes without a strobe neither.
  always_comb begin
    for (int unsigned i = 0; i < Bytes; i++) begin
      mixed[8*i+:8] = over && new_lanes[i] ? src_data[8*i+:8] : cur_q[8*i+:8];
    end
  end
  assign beat_data_o  = DataW'({mixed, mixed} >> {(LaneW + 1)'(Bytes) - (LaneW + 1)'(turn), 3'd0});
  assign beat_strb_o  = ~({Bytes{1'b1}} << take) << to_lane;
  assign beat_valid_o = cut_valid && cur_valid_q && (!over || src_valid);
  assign fire         = beat_valid_o && beat_ready_i;
  assign cut_pop      = fire && burst_end;

  // Whether the current beat gives way, and the next one replaces it.
  logic load;
  always_comb begin
    load = 1'b0;
    if (!cur_valid_q) load = 1'b1;
    else if (fire) load = over ? !frame_end : (exact || frame_end);
  end
  assign src_ready = load || (fire && over);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      cur_valid_q <= 1'b0;
      lane_q      <= start_lane;
      midway_q    <= 1'b0;
      bytes_q     <= '0;
    end else begin
      if (load) cur_valid_q <= src_valid;
      else if (fire && over) cur_valid_q <= 1'b0;  // the frame ended in the stream's beat
      if (fire) begin
        lane_q   <= frame_end ? start_lane : LaneW'(reach);
        midway_q <= !burst_end;
        bytes_q  <= have - span;
      end
    end
  end
  always_ff @(posedge clk_i) if (load) cur_q <= src_data;

  assign moving_o = (src_valid && src_ready) || (in_valid_i && in_ready_o) || fire
                    || ad_d != ad_q || seg_ready_o || (burst_valid_o && burst_ready_i);

  // Properties.
  logic cur_last_q;
  always_ff @(posedge clk_i) begin
    if (load) cur_last_q <= !in_hdr && in_last_i;
    if (rst_ni) begin
      assert (hdr_beats <= 8'd2);
      // Addresses and bytes end together.
      if (fire && frame_end) assert (over ? in_last_i : cur_last_q);
      if (fire && !frame_end && (over || exact)) assert (!cur_last_q);
    end
  end

endmodule

`default_nettype wire
