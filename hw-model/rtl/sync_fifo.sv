// FIFO on one clock for short queues: distributed RAM, word shown as soon as it is there.
//
//   in --> mem_q[Depth] --> out (asynchronous read)
//
// Latency 1 cycle, throughput one word a cycle. Depth need not be a power of two. For long queues
// use stream_fifo, whose read is synchronous. clear_i empties it; what is offered in that cycle is
// not taken in, although in_ready_o may be up.

`default_nettype none

module sync_fifo #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 4,
  localparam int unsigned CountW = $clog2(Depth + 1)
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic             clear_i,

  input  wire logic             in_valid_i,
  output logic                  in_ready_o,
  input  wire logic [Width-1:0] in_data_i,

  output logic                  out_valid_o,
  input  wire logic             out_ready_i,
  output logic [Width-1:0]      out_data_o,

  output logic [CountW-1:0]     count_o
);

  if (Depth < 2) begin : gen_depth_check
    $error("sync_fifo: Depth must be at least 2");
  end

  localparam int unsigned PtrW = $clog2(Depth);
  localparam logic [PtrW-1:0] PtrLast = PtrW'(Depth - 1);

  logic [Width-1:0]  mem_q [Depth];
  logic [PtrW-1:0]   wr_q;
  logic [PtrW-1:0]   rd_q;
  logic [CountW-1:0] count_q;

  logic push;
  logic pop;

  assign in_ready_o  = count_q != CountW'(Depth);
  assign out_valid_o = count_q != '0;
  assign out_data_o  = mem_q[rd_q];
  assign count_o     = count_q;
  assign push        = in_valid_i && in_ready_o && !clear_i;
  assign pop         = out_valid_o && out_ready_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni || clear_i) begin
      wr_q    <= '0;
      rd_q    <= '0;
      count_q <= '0;
    end else begin
      if (push) wr_q <= (wr_q == PtrLast) ? '0 : wr_q + 1'b1;
      if (pop) rd_q <= (rd_q == PtrLast) ? '0 : rd_q + 1'b1;
      count_q <= count_q + CountW'(push) - CountW'(pop);
    end
  end

  always_ff @(posedge clk_i) begin
    if (push) mem_q[wr_q] <= in_data_i;
  end

  // Properties.
  int unsigned      ahead;      // where count words from rd_q lead to
  int unsigned      wrapped;
  assign ahead   = 32'(rd_q) + 32'(count_q);
  assign wrapped = (ahead >= Depth) ? ahead - Depth : ahead;
  logic             past_stalled_q;
  logic [Width-1:0] past_data_q;
  always_ff @(posedge clk_i) begin
    past_stalled_q <= rst_ni && !clear_i && out_valid_o && !out_ready_i;
    past_data_q    <= out_data_o;
    if (rst_ni && past_stalled_q) begin
      assert (out_valid_o);
      assert (out_data_o == past_data_q);
    end
    if (rst_ni) begin
      assert (count_q <= CountW'(Depth));
      assert (32'(wr_q) < Depth);
      assert (32'(rd_q) < Depth);
      assert (32'(wr_q) == wrapped);
    end
  end

endmodule

`default_nettype wire
