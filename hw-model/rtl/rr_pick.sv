// Round-robin choice without memory of what it showed: for requests that may be withdrawn.
//
// Combinational; the turn passes to the one after the winner in a cycle with take_i. Whoever uses
// it registers the choice at once, so that nothing behind sees it change.

`default_nettype none

module rr_pick #(
  parameter int unsigned N = 2,
  localparam int unsigned IdxW = (N > 1) ? $clog2(N) : 1
) (
  input  wire logic         clk_i,
  input  wire logic         rst_ni,
  input  wire logic [N-1:0] req_i,
  input  wire logic         take_i,
  output logic              valid_o,
  output logic [N-1:0]      gnt_o,    // one-hot when valid_o
  output logic [IdxW-1:0]   idx_o
);

  logic [N-1:0] above_q;    // those after the last winner
  logic [N-1:0] high;

  assign high    = req_i & above_q;
  assign gnt_o   = (high != '0) ? (high & (~high + 1'b1)) : (req_i & (~req_i + 1'b1));
  assign valid_o = req_i != '0;

  always_comb begin
    idx_o = '0;
    for (int unsigned i = 0; i < N; i++) if (gnt_o[i]) idx_o |= IdxW'(i);
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) above_q <= '0;
    else if (take_i && valid_o) above_q <= ~(gnt_o | (gnt_o - 1'b1));
  end

  // Properties.
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert ((gnt_o & (gnt_o - 1'b1)) == '0);
      assert ((gnt_o & ~req_i) == '0);
    end
  end

endmodule

`default_nettype wire
