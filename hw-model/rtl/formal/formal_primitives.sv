// What the prover may assume of the primitives' neighbours. The properties proved are those at the end
// of each primitive's file. See primitives.sby.

`default_nettype none

module formal_primitives (
  input wire logic       clk_i,
  input wire logic       rst_ni,
  input wire logic [3:0] in_valid_i,
  input wire logic [3:0] ready_i,
  input wire logic [7:0] data_i,
  input wire logic [2:0] req_i,
  input wire logic       clear_i,
  input wire logic       commit_i,
  input wire logic       rollback_i
);

  // Reset in the first cycle, and never again.
  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;
  always_comb assume (rst_ni == started_q);

  skid_buffer #(.Width(8)) u_skid (
    .clk_i,
    .rst_ni,
    .in_valid_i  (in_valid_i[0]),
    .in_ready_o  (),
    .in_data_i   (data_i),
    .out_valid_o (),
    .out_ready_i (ready_i[0]),
    .out_data_o  ()
  );

  sync_fifo #(.Width(8), .Depth(3)) u_fifo (
    .clk_i,
    .rst_ni,
    .clear_i,
    .in_valid_i  (in_valid_i[1]),
    .in_ready_o  (),
    .in_data_i   (data_i),
    .out_valid_o (),
    .out_ready_i (ready_i[1]),
    .out_data_o  (),
    .count_o     ()
  );

  // A request stays up until it is granted.
  logic [2:0] gnt;
  logic [2:0] pending_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) pending_q <= '0;
    else pending_q <= req_i & ~(ready_i[2] ? gnt : 3'b0);
  end
  always_comb if (rst_ni) assume ((pending_q & ~req_i) == '0);

  rr_arbiter #(.N(3)) u_arb (
    .clk_i,
    .rst_ni,
    .req_i,
    .gnt_o   (gnt),
    .idx_o   (),
    .valid_o (),
    .ready_i (ready_i[2])
  );

  // The writer obeys full, and does not commit and roll back at once.
  logic full;
  always_comb begin
    assume (!(in_valid_i[3] && full));
    assume (!(commit_i && rollback_i));
  end

  stream_fifo #(.Width(8), .Depth(4)) u_stream (
    .clk_i,
    .rst_ni,
    .flush_i       (clear_i),
    .wr_valid_i    (in_valid_i[3]),
    .wr_data_i     (data_i),
    .wr_commit_i   (commit_i),
    .wr_rollback_i (rollback_i),
    .wr_full_o     (full),
    .wr_used_o     (),
    .rd_valid_o    (),
    .rd_ready_i    (ready_i[3]),
    .rd_data_o     (),
    .empty_o       ()
  );

endmodule

`default_nettype wire
