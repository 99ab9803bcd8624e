// Packs a chain's scattered bytes into a stream whose frame starts at lane 0.
//
//   in (lane, count) -> rotate -> merge with what is left over -> out
//
// The chain is laid down so that the virtio-net header ends at a beat's last lane: it starts at
// lane -hdr_len mod Bytes, and the frame behind it needs no second shift. The lanes before the
// header hold nothing of meaning. Latency 0 cycles, one beat a cycle, one more at a chain's end
// when it spills over. out_err_o at the last beat: some burst of the chain failed.

`default_nettype none

module tx_pack #(
  parameter int unsigned DataW  = 512,
  localparam int unsigned Bytes = DataW / 8,
  localparam int unsigned LaneW = $clog2(Bytes)
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic [LaneW-1:0] start_lane_i,

  input  wire logic             in_valid_i,
  output logic                  in_ready_o,
  input  wire logic [DataW-1:0] in_data_i,
  input  wire logic [LaneW-1:0] in_lane_i,
  input  wire logic [LaneW:0]   in_count_i,
  input  wire logic             in_last_i,
  input  wire logic             in_err_i,

  output logic                  out_valid_o,
  input  wire logic             out_ready_i,
  output logic [DataW-1:0]      out_data_o,
  output logic [Bytes-1:0]      out_keep_o,
  output logic                  out_last_o,
  output logic                  out_err_o
);

  logic [DataW-1:0] left_q;
  logic [LaneW-1:0] fill_q;      // lanes of left_q that count
  logic             begun_q;     // otherwise fill is start_lane_i
  logic             spill_q;     // the last lanes of a chain are in left_q
  logic             err_q;

  logic [LaneW-1:0] fill;
  logic [LaneW-1:0] turn;
  logic [LaneW+1:0] total;
  logic             full;
  logic [DataW-1:0] turned;
  logic [DataW-1:0] merged;
  assign fill   = begun_q ? fill_q : start_lane_i;
  assign turn   = fill - in_lane_i;
  assign total  = (LaneW + 2)'(fill) + (LaneW + 2)'(in_count_i);
  assign full   = total >= (LaneW + 2)'(Bytes);
  assign turned = DataW'({in_data_i, in_data_i}
                         >> {(LaneW + 1)'(Bytes) - (LaneW + 1)'(turn), 3'd0});

  // Lanes below `lane`.
  function automatic logic [Bytes-1:0] below(logic [LaneW:0] lane);
    return ~({Bytes{1'b1}} << lane);
  endfunction

  logic [Bytes-1:0] old_lanes;
  assign old_lanes = below((LaneW + 1)'(fill));
  always_comb begin
    for (int unsigned i = 0; i < Bytes; i++) begin
      merged[8*i+:8] = old_lanes[i] ? left_q[8*i+:8] : turned[8*i+:8];
    end
  end

  assign out_valid_o = spill_q || (in_valid_i && (full || in_last_i));
  assign out_data_o  = spill_q ? left_q : merged;
  assign out_keep_o  = spill_q ? below((LaneW + 1)'(fill_q))
                               : (full ? '1 : below((LaneW + 1)'(total)));
  assign out_last_o  = spill_q || (in_last_i && total <= (LaneW + 2)'(Bytes));
  assign out_err_o   = err_q || (!spill_q && in_err_i);
  assign in_ready_o  = !spill_q && (!(full || in_last_i) || out_ready_i);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      fill_q  <= '0;
      begun_q <= 1'b0;
      spill_q <= 1'b0;
      err_q   <= 1'b0;
    end else if (spill_q) begin
      if (out_ready_i) begin
        spill_q <= 1'b0;
        begun_q <= 1'b0;
        err_q   <= 1'b0;
      end
    end else if (in_valid_i && in_ready_o) begin
      fill_q  <= LaneW'(total);
      begun_q <= !in_last_i || !out_last_o;
      spill_q <= in_last_i && !out_last_o;
      err_q   <= (err_q || in_err_i) && !out_last_o;
    end
  end

  always_ff @(posedge clk_i) begin
    if (in_valid_i && in_ready_o) left_q <= full ? turned : merged;
  end

endmodule

`default_nettype wire
