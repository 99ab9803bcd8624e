// Round-robin arbiter for valid/ready requesters.
//
// Combinational grant from a registered priority; the turn passes to the one after the winner when
// the grant is taken (ready_i). A grant that has been shown and not taken stays with the same
// requester, so that what a multiplexer behind it shows is stable while it is stalled. Throughput
// one grant a cycle. A requester that is up is granted after at most N-1 grants to others.
// Assumes that a request, once up, stays up until it is granted.

`default_nettype none

module rr_arbiter #(
  parameter int unsigned N = 2,
  localparam int unsigned IdxW = (N > 1) ? $clog2(N) : 1
) (
  input  wire logic        clk_i,
  input  wire logic        rst_ni,

  input  wire logic [N-1:0] req_i,
  output logic [N-1:0]     gnt_o,    // one-hot when valid_o; the request is taken when ready_i too
  output logic [IdxW-1:0]  idx_o,    // the same as a number
  output logic             valid_o,
  input  wire logic        ready_i
);

  if (N < 2) begin : gen_n_check
    $error("rr_arbiter: N must be at least 2");
  end

  // Requesters with a number above the last winner's go first.
  logic [N-1:0] above_q;
  logic [N-1:0] held_q;   // the grant that was shown and not taken, or zero
  logic [N-1:0] high;
  logic [N-1:0] first;

  assign high    = req_i & above_q;
  assign first   = (high != '0) ? (high & (~high + 1'b1)) : (req_i & (~req_i + 1'b1));
  assign gnt_o   = (held_q != '0) ? held_q : first;
  assign valid_o = req_i != '0;

  always_comb begin
    idx_o = '0;
    for (int unsigned i = 0; i < N; i++) begin
      if (gnt_o[i]) idx_o |= IdxW'(i);
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      above_q <= '0;
      held_q  <= '0;
    end else if (valid_o) begin
      held_q <= ready_i ? '0 : gnt_o;
      // All bits above the winner's: the complement of (gnt | gnt - 1).
      if (ready_i) above_q <= ~(gnt_o | (gnt_o - 1'b1));
    end
  end

  // Properties.
  logic         past_stalled_q;
  logic [N-1:0] past_gnt_q;
  always_ff @(posedge clk_i) begin
    past_stalled_q <= rst_ni && valid_o && !ready_i;
    past_gnt_q     <= gnt_o;
    if (rst_ni) begin
      assert ((gnt_o & (gnt_o - 1'b1)) == '0);
      assert (valid_o == (gnt_o != '0));
      assert ((gnt_o & ~req_i) == '0);
      if (past_stalled_q) assert (gnt_o == past_gnt_q);
    end
  end

endmodule

`default_nettype wire
